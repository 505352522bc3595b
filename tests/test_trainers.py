"""The losses of transformers, TRL and sentence-transformers under `install`, and models without logits.

Models are made from configurations, and nothing is loaded from a hub.
"""

import copy
import inspect
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

torch = pytest.importorskip("torch")
tf = pytest.importorskip("transformers")

from torch_tools import make_module  # noqa: E402
from transformers.loss import loss_utils  # noqa: E402

import fastloss.torch as ft  # noqa: E402
from fastloss.torch import _functional  # noqa: E402

Tensor = torch.Tensor
tf.logging.set_verbosity_error()
# What the libraries say of themselves and of each other.
pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.filterwarnings("error:.*fastloss.*")]
V = 97


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """One thread, as models are tiny; nothing stays installed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    ft.uninstall(all=True)


@pytest.fixture(params=["at once", "in chunks"])
def logits_made(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linear losses make few logits at once; larger ones are in chunks."""
    if request.param == "in chunks":
        monkeypatch.setattr(_functional, "_FEW", 0)


over_ways_of_logits = pytest.mark.usefixtures("logits_made")


def run(function: Callable[..., Tensor], x: Tensor, *rest: Any, scale: float = 1.0, **options: Any) -> Any:
    leaf = x.clone().requires_grad_()
    loss = function(leaf, *rest, **options)
    (scale * loss).backward()
    return loss.detach(), leaf.grad


def by_both(compute: Callable[[], Any]) -> tuple[Any, Any, tuple[str, ...]]:
    """What is computed by their functions and by ours, and the names of those that are replaced."""
    theirs = compute()
    with ft.install() as names:
        return theirs, compute(), names


def labels_of(*shape: int) -> Tensor:
    labels = torch.randint(V, shape, generator=torch.Generator().manual_seed(1))
    labels[..., 1:4] = -100
    return labels


# transformers: the losses


@pytest.mark.parametrize("items", [None, 11, 11.0, torch.tensor(11), torch.tensor([11])], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["ForCausalLMLoss", "fixed_cross_entropy"])
def test_losses_of_transformers(name: str, dtype: torch.dtype, items: Any) -> None:
    """As their own; half types are read without a copy in float32."""
    logits, labels = torch.randn(2, 9, V).to(dtype), labels_of(2, 9)
    given = (logits, labels, V) if name == "ForCausalLMLoss" else (logits.view(-1, V), labels.view(-1))
    theirs, ours, names = by_both(
        lambda: run(getattr(loss_utils, name), *given, num_items_in_batch=items, scale=3.0)
    )
    assert f"transformers.loss.loss_utils.{name}" in names
    assert ft.calls()[name].torch == 0
    exact = 1e-6 if dtype.itemsize > 2 else 2e-2
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=exact, atol=exact * other.abs().max().item())


def test_shifted_labels_and_other_ignored_ones() -> None:
    logits, labels = torch.randn(2, 9, V).bfloat16(), labels_of(2, 9)
    for ignored, more in ((-100, {"shift_labels": labels}), (5, {"ignore_index": 5})):
        given = labels.masked_fill(labels == -100, ignored)
        expected = loss_utils.ForCausalLMLoss(logits, given, V, **more)
        with ft.install():
            torch.testing.assert_close(loss_utils.ForCausalLMLoss(logits, given, V, **more), expected)


@pytest.mark.parametrize("items", [0, torch.tensor(0), float("inf"), torch.tensor([3, 4])])
def test_other_numbers_of_items_are_theirs(items: Any) -> None:
    x, y = torch.randn(5, V), labels_of(5)
    theirs, ours, _ = by_both(lambda: loss_utils.fixed_cross_entropy(x, y, items))
    torch.testing.assert_close(ours, theirs, equal_nan=True)


def test_tables_of_losses_there_and_back() -> None:
    own = dict(loss_utils.LOSS_MAPPING)
    with ft.install() as names:
        assert loss_utils.LOSS_MAPPING["ForCausalLM"] is loss_utils.ForCausalLMLoss is not own["ForCausalLM"]
        assert "transformers.loss.loss_utils.LOSS_MAPPING.ForCausalLM" in names
    assert own == loss_utils.LOSS_MAPPING and not ft.installed()


def test_a_changed_signature_leaves_transformers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fixed_cross_entropy(source: Tensor, target: Tensor, items: Any = None) -> Tensor:
        return source.sum()

    make_module(monkeypatch, "transformers.loss.loss_utils", fixed_cross_entropy=fixed_cross_entropy)
    with pytest.warns(RuntimeWarning, match=r"fixed_cross_entropy\(source, target, items=None\)"):
        ft.install()
    assert sys.modules["transformers.loss.loss_utils"].fixed_cross_entropy is fixed_cross_entropy


# Models without logits


SMALL = {"vocab_size": V, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
         "num_attention_heads": 4}  # fmt: skip
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
CONFIGURATIONS = {
    "gpt2, tied": tf.GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=4, n_positions=64, **TOKENS),
    "llama, untied": tf.LlamaConfig(**SMALL, **TOKENS),
    "gemma2, softcap": tf.Gemma2Config(
        **SMALL, head_dim=8, num_key_value_heads=2, final_logit_softcapping=2.0, **TOKENS
    ),
    "cohere, scale": tf.CohereConfig(**SMALL, logit_scale=0.25, **TOKENS),
    "granite, divisor": tf.GraniteConfig(**SMALL, logits_scaling=4.0, **TOKENS),
    "phi, bias": tf.PhiConfig(**SMALL, **TOKENS),
}


def make(kind: str = "llama, untied") -> Any:
    torch.manual_seed(0)
    return tf.AutoModelForCausalLM.from_config(CONFIGURATIONS[kind])


def answer(model: Any, labels: Tensor, **options: Any) -> Any:
    """What a model in training gives; ignored labels are some token of the input."""
    return model.train()(input_ids=labels.clamp(min=0), labels=labels, **options)


def quiet(model: Any) -> Any:
    """Without its logits, and without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.filterwarnings("error", ".*fastloss.*")
        return ft.without_logits(model)


def curve(model: Any, *, accumulate: int = 1, **options: Any) -> list[float]:
    """The losses of some steps, with gradient accumulation."""
    optimiser = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=5e-3)
    losses = []
    torch.manual_seed(2)
    for step in range(6):
        labels = torch.randint(V, (2, 12))
        labels[0, :5] = -100
        loss = answer(model, labels, **options).loss
        (loss / accumulate).backward()
        if step % accumulate == accumulate - 1:
            optimiser.step()
            optimiser.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("kind", CONFIGURATIONS)
@over_ways_of_logits
def test_curves_without_logits(kind: str) -> None:
    model = make(kind)
    ours = quiet(copy.deepcopy(model))
    options: list[dict[str, Any]] = [{}, {"num_items_in_batch": torch.tensor(17)}, {"accumulate": 2}]
    for more in options:
        expected = curve(copy.deepcopy(model), **more)
        torch.testing.assert_close(curve(copy.deepcopy(ours), **more), expected, rtol=0.0, atol=1e-5)


def test_logits_that_were_not_made() -> None:
    model = quiet(make("gemma2, softcap"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "cross_entropy", None)  # which a model with logits calls
        output = answer(model, labels_of(2, 9))
    output.loss.backward()
    assert "not computed" in repr(output.logits)
    uses: list[Callable[[Any], Any]] = [
        lambda x: x.shape, lambda x: x[0], lambda x: x.argmax(-1), lambda x: torch.softmax(x, -1),
        lambda x: x + 1, lambda x: x * 2, lambda x: len(x), lambda x: torch.tanh(x), lambda x: x.float(),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(RuntimeError, match=r"without_logits\(model\)"):
            use(output.logits)
    copy.deepcopy(output.logits)
    assert not hasattr(output.logits, "dtype"), "as accelerate asks under autocast"


def test_elsewhere_the_model_is_as_before() -> None:
    model, own = quiet(make()), make()
    labels = labels_of(2, 9)
    ids = labels.clamp(min=0)
    calls: list[Callable[[Any], Any]] = [
        lambda m: m.eval()(input_ids=ids, labels=labels).logits,
        lambda m: m.train()(input_ids=ids).logits,
        lambda m: torch.no_grad()(m.train())(input_ids=ids, labels=labels).logits,
        lambda m: m.eval().generate(ids[:1, :4], max_new_tokens=4, do_sample=False),
    ]
    for call in calls:
        torch.testing.assert_close(call(model), call(own))


def test_a_model_restored() -> None:
    model = make()
    before = dict(vars(model))
    assert quiet(model) is model and quiet(model) is model
    assert inspect.signature(model.forward) == inspect.signature(make().forward)
    assert ft.without_logits(model, undo=True) is model and dict(vars(model)) == before
    ft.without_logits(model, undo=True)
    assert answer(model, labels_of(1, 9)).logits.shape == (1, 9, V)


def test_autocast_and_half_types() -> None:
    """Within the rounding of bfloat16, which the model's own logits have."""
    for dtype in (torch.float32, torch.bfloat16):
        ours, theirs = quiet(make().to(dtype)), make().to(dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.float32):
            loss, expected = (answer(model, labels_of(2, 9)).loss for model in (ours, theirs))
        assert loss.dtype is expected.dtype is torch.float32
        torch.testing.assert_close(loss, expected, rtol=1e-2, atol=0.0)
        loss.backward()
        expected.backward()
        a, b = ours.lm_head.weight.grad.float(), theirs.lm_head.weight.grad.float()
        torch.testing.assert_close(a, b, rtol=0.0, atol=0.03 * b.abs().max().item())


def test_peft_and_checkpoints() -> None:
    peft = pytest.importorskip("peft")
    adapters = peft.LoraConfig(target_modules=["q_proj", "v_proj"], r=4, lora_dropout=0.0)

    def made() -> Any:
        model = make()
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
        return peft.get_peft_model(model, adapters)

    expected = curve(made())
    ours = quiet(made())
    assert "forward" in vars(ours.get_base_model())
    torch.testing.assert_close(curve(ours), expected, rtol=0.0, atol=1e-5)


def test_models_that_are_not_understood() -> None:
    """They are left as they were, with a warning that says why."""
    llama = make()
    llama.loss_function = lambda *args, **options: torch.zeros(())
    with_hook = make()
    with_hook.lm_head.register_forward_hook(lambda *_: None)
    clamped = make()
    clamped.forward = types.MethodType(_clamped, clamped)
    wrong = make()
    wrong.forward = types.MethodType(_shifted_loss, wrong)
    sizes = {"vocab_size": V, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
    t5 = tf.T5ForConditionalGeneration(tf.T5Config(**sizes, decoder_start_token_id=0))
    cases = [
        (torch.nn.Linear(3, 3), "no language model"), (llama, "its loss is not"), (t5, ""),
        (with_hook, "output layer"), (clamped, "logits.clamp"), (wrong, "on a few tokens"),
    ]  # fmt: skip
    for model, match in cases:
        before, training = dict(vars(model)), model.training
        with pytest.warns(RuntimeWarning, match=f"without_logits.*{match}"):
            assert ft.without_logits(model) is model
        assert dict(vars(model)) == before and model.training == training
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got int"):
        ft.without_logits(3)
    with pytest.raises(TypeError, match="undo"):
        ft.without_logits(llama, undo="yes")  # type: ignore[arg-type]


def _clamped(self: Any, input_ids: Tensor, labels: Tensor, **options: Any) -> Any:
    logits = self.lm_head(self.model(input_ids).last_hidden_state).clamp(-1.0, 1.0)
    return (self.loss_function(logits, labels, V, **options), logits)


def _shifted_loss(self: Any, input_ids: Tensor, labels: Tensor, **options: Any) -> Any:
    """A model whose logits are made in another way when they are asked for."""
    logits = self.lm_head(self.model(input_ids).last_hidden_state)
    logits = logits + 0.1 * torch.arange(V) if isinstance(logits, Tensor) else logits
    return (self.loss_function(logits, labels, V, **options), logits)


# sentence-transformers


def embeddings(count: int, rows: int = 12, width: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(rows, width, generator=generator).requires_grad_() for _ in range(count)]


BOTH = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
SENTENCES: list[tuple[int, int, dict[str, Any]]] = [
    # columns, calls that are ours, options
    (2, 1, {}),
    (4, 1, {"scale": 5.0}),
    (2, 1, {"partition_mode": "per_direction"}),
    (2, 1, BOTH),
    (3, 1, BOTH),
    (2, 0, {"directions": ("query_to_doc", "doc_to_query")}),
    (3, 0, {"directions": ("query_to_doc", "query_to_query")}),
    (3, 0, {"hardness_mode": "all_negatives", "hardness_strength": 1.0}),
]


@pytest.mark.parametrize(("columns", "ours", "options"), SENTENCES)
@pytest.mark.parametrize("similarity", ["cos_sim", "dot_score", "pairwise"])
@pytest.mark.parametrize("is_cached", [False, True])
def test_ranking_losses(
    columns: int, ours: int, options: dict[str, Any], similarity: str, is_cached: bool
) -> None:
    st = pytest.importorskip("sentence_transformers")
    name = f"{'Cached' * is_cached}MultipleNegativesRankingLoss"
    if similarity == "pairwise":
        given, ours = {**options, "similarity_fct": lambda a, b: 0.1 * a @ b.T}, 0
    else:
        small = {"scale": 1.0} if similarity == "dot_score" else {}
        given = {**options, **small, "similarity_fct": getattr(st.util, similarity)}
    module = getattr(st.sentence_transformer.losses, name)(torch.nn.Sequential(torch.nn.Identity()), **given)

    def compute() -> list[Tensor]:
        leaves = embeddings(columns)
        if is_cached:
            parts = [[part.detach().requires_grad_() for part in one.split(5)] for one in leaves]
            loss = module.calculate_loss(parts, None, with_backward=True)
            return [loss, *(torch.cat([part.grad for part in one]) for one in parts)]
        loss = module.compute_loss_from_embeddings(leaves, None)
        loss.backward()
        return [loss.detach(), *(one.grad for one in leaves)]

    expected, actual, names = by_both(compute)
    assert any(title.endswith(f"ranking.{name}." + method) for title in names for method in METHODS)
    torch.testing.assert_close(actual, expected, rtol=2e-6, atol=2e-6)
    assert ft.calls()[name] == (ours, 1 - ours)
    assert all(not hasattr(getattr(type(module), method, None), "fastloss_replaces") for method in METHODS)


METHODS = ("compute_loss_from_embeddings", "calculate_loss")


def test_a_changed_signature_leaves_ranking_losses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    st = pytest.importorskip("sentence_transformers")
    kind = st.sentence_transformer.losses.MultipleNegativesRankingLoss
    own = kind.compute_loss_from_embeddings

    def changed(self: Any, embeddings: list[Tensor], labels: Tensor, margin: float = 0.0) -> Tensor:
        return own(self, embeddings, labels) + margin

    monkeypatch.setattr(kind, "compute_loss_from_embeddings", changed)
    with pytest.warns(RuntimeWarning, match=r"compute_loss_from_embeddings\(.*margin=0.0\)"):
        names = ft.install()
    assert kind.compute_loss_from_embeddings is changed
    assert any(title.endswith("CachedMultipleNegativesRankingLoss.calculate_loss") for title in names)


# TRL


STATISTICS = ("entropy", "log_sum_sq_probs", "mean_logits", "is_top1")


def head(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Hidden states, weight, bias and targets of a few tokens."""
    generator = torch.Generator().manual_seed(4)
    tensors = [torch.randn(shape, generator=generator).to(dtype) for shape in ((13, 16), (V, 16), (V,))]
    return [*tensors, torch.randint(V, (13,), generator=generator)]


def of_head(tensors: list[Tensor], *options: Any) -> list[Any]:
    """The outputs of TRL's head, and the gradients of log-probabilities and entropy."""
    from trl.kernels import ChunkedLogProbFunction

    leaves = [one.clone().requires_grad_() for one in tensors[:3]]
    outputs = ChunkedLogProbFunction.apply(*leaves, tensors[3], *options)
    upstream = torch.linspace(-1.0, 1.0, len(tensors[0]))
    loss = (outputs[0] * upstream).sum() + (0.0 if outputs[1] is None else (outputs[1] * upstream**2).sum())
    loss.backward()
    return [*outputs, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("options", [(1.0, 64), (0.7, 64, 5.0), (1.3, 64, None, 0.25), (1.0, 64, 4.0, 2.0)])
@pytest.mark.parametrize("outputs", [(), ("log_probs",), ("is_top1", "entropy"), STATISTICS])
@over_ways_of_logits
def test_trls_head(options: tuple[Any, ...], outputs: tuple[str, ...]) -> None:
    pytest.importorskip("trl.kernels")
    given = (*options, *(None, 1.0)[len(options) - 2 :], outputs)
    expected, actual, names = by_both(lambda: of_head(head(), *given))
    assert "trl.kernels.chunked_logprob.ChunkedLogProbFunction.apply" in names
    assert ft.calls()["ChunkedLogProbFunction"] == (1, 0)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=2e-6)
    assert of_head(head(), *given)[0].equal(expected[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("is_autocast", [False, True])
def test_types_of_trls_head(dtype: torch.dtype, is_autocast: bool) -> None:
    pytest.importorskip("trl.kernels")
    exact = dtype.itemsize > 2 and not is_autocast
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        expected, actual, _ = by_both(lambda: of_head(head(dtype), 1.0, 64))
    for theirs, ours in zip(expected, actual, strict=True):
        assert theirs.dtype is ours.dtype
        if theirs.dtype is not torch.bool:
            size = theirs.abs().max().item()
            torch.testing.assert_close(ours, theirs, rtol=0.0, atol=(1e-5 if exact else 0.04) * size)


def test_what_trls_head_does_otherwise() -> None:
    """Arguments that only its own code takes."""
    pytest.importorskip("trl.kernels")
    given = (1.0, 64, None, -1.0)
    theirs, ours, _ = by_both(lambda: of_head(head(), *given))
    torch.testing.assert_close(ours, theirs)
    assert ft.calls()["ChunkedLogProbFunction"] == (0, 1)


@pytest.mark.parametrize("masked", [slice(0, 0), slice(2, 6), slice(None)])
@over_ways_of_logits
def test_models_with_trls_head(masked: slice) -> None:
    """Masked tokens are left out of the products; where all are, the loss is 0 with a gradient."""
    utils = pytest.importorskip("trl.trainer.utils")
    labels = torch.randint(V, (2, 9))
    labels[:, masked] = -100

    def compute() -> list[Tensor]:
        model = quiet(make("cohere, scale"))
        utils.add_fused_lm_head(model, outputs=("log_probs", *STATISTICS))
        output = answer(model, labels, fused_lm_head=True)
        (output.loss + 0.1 * output.entropy.sum()).backward()
        return [output.loss, *(output[name] for name in STATISTICS), model.lm_head.weight.grad]

    theirs, ours, _ = by_both(compute)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("options", [(1.0,), (0.7, 0.5, 3.0, 2.0, None)])
@pytest.mark.parametrize(
    "upstream", [torch.full((13,), 0.3), torch.linspace(-1.0, 1.0, 13)], ids=["one", "many"]
)
def test_trls_divergence(beta: float, options: tuple[Any, ...], upstream: Tensor) -> None:
    kernels = pytest.importorskip("trl.kernels.chunked_divergence")
    hidden, weight, bias, _ = head()
    teacher, layer = torch.randn(13, 8), torch.randn(V, 8).requires_grad_()

    def compute() -> list[Tensor]:
        leaves = [one.clone().requires_grad_() for one in (hidden, weight, bias)]
        function = kernels.ChunkedDivergenceFunction
        divergence, entropy = function.apply(*leaves, teacher, layer, None, beta, *options)
        (divergence * upstream).sum().backward()
        assert layer.grad is None
        return [divergence.detach(), entropy, *(leaf.grad for leaf in leaves)]

    expected, actual, names = by_both(compute)
    assert "trl.kernels.chunked_divergence.ChunkedDivergenceFunction.apply" in names
    assert ft.calls()["ChunkedDivergenceFunction"] == (1, 0)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=3e-6)


# Trainers


ARGUMENTS: dict[str, Any] = {
    "max_steps": 4, "logging_steps": 1, "learning_rate": 1e-3, "save_strategy": "no", "report_to": [],
    "disable_tqdm": True, "use_cpu": True,
}  # fmt: skip


def steps(trainer: Any) -> list[dict[str, float]]:
    """What a trainer logs of each step."""
    trainer.train()
    found = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(found) == ARGUMENTS["max_steps"]
    return found


@pytest.mark.parametrize("way", ["install", "without_logits"])
@pytest.mark.parametrize("is_autocast", [False, True])
def test_the_trainer_of_transformers(way: str, is_autocast: bool, tmp_path: Any) -> None:
    """The same curve, with accumulation, which divides by the items of all parts."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.randint(V, (24, 12), generator=generator).tolist()
    data = [{"input_ids": row, "labels": row[:-3] + [-100] * 3} for row in rows]
    arguments = tf.TrainingArguments(
        **ARGUMENTS, per_device_train_batch_size=2, gradient_accumulation_steps=3, output_dir=str(tmp_path),
        max_grad_norm=1.0, bf16=is_autocast,
    )  # fmt: skip

    def compute(of_model: Callable[[Any], Any] = lambda model: model) -> list[float]:
        model = of_model(make("gemma2, softcap"))
        return [step["loss"] for step in steps(tf.Trainer(model=model, args=arguments, train_dataset=data))]

    if way == "install":
        theirs, ours, _ = by_both(compute)
        assert ft.calls()["ForCausalLMLoss"] == (12, 0)
    else:
        theirs, ours = compute(), compute(quiet)
    # Logits in bfloat16 round the loss.
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=5e-3 if is_autocast else 1e-5)


# Trainers of TRL, in float32: by default they use bfloat16, which TRL's heads round to and ours do not


def words(seed: int, count: int) -> str:
    return " ".join(f"w{(7 * seed + 3 * k * k) % 96}" for k in range(count))


def tokenizer_of_words() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"<end>": 0, **{f"w{k}": k + 1 for k in range(96)}}
    found = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<end>"))
    found.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    special = dict.fromkeys(("eos_token", "pad_token", "bos_token"), "<end>")
    return tf.PreTrainedTokenizerFast(tokenizer_object=found, **special)


def model_of_words(seed: int = 0) -> Any:
    tf.set_seed(seed)
    sizes = {"vocab_size": V, "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return tf.GPT2LMHeadModel(tf.GPT2Config(bos_token_id=0, eos_token_id=0, **sizes, **dropout))


def different_words(completions: list[str], **_: Any) -> list[float]:
    return [float(len(set(one.split()))) for one in completions]


PREFERENCES = {"prompt": 4, "chosen": 9, "rejected": 7}
ANSWERS = {"prompt": 4, "completion": 9}
# The options, the columns with their number of words, what else the trainer takes, and the function replaced.
TRAINERS: dict[str, tuple[dict[str, Any], dict[str, int], dict[str, Any], str]] = {
    "SFT": ({"max_length": 32}, ANSWERS, {}, "ChunkedLogProbFunction"),
    "DPO": ({"max_length": 32}, PREFERENCES, {"ref_model": model_of_words}, "ChunkedLogProbFunction"),
    "GRPO": (
        {"num_generations": 4, "max_completion_length": 8}, {"prompt": 4},
        {"reward_funcs": lambda: [different_words]}, "ChunkedLogProbFunction",
    ),
    "Distillation": (
        {"max_completion_length": 8}, ANSWERS, {"teacher_model": lambda: model_of_words(1)},
        "ChunkedDivergenceFunction",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TRAINERS)
@over_ways_of_logits
def test_the_trainers_of_trl(kind: str, tmp_path: Any) -> None:
    """The same losses and norms of the gradient, and no call is left to TRL."""
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    own, columns, more, name = TRAINERS[kind]
    rows = [{c: f" {words(k + len(c), n)}" for c, n in columns.items()} for k in range(16)]
    config = getattr(trl, f"{kind}Config")(
        **ARGUMENTS, **own, per_device_train_batch_size=4, bf16=False, output_dir=str(tmp_path)
    )

    def compute() -> Tensor:
        trainer = getattr(trl, f"{kind}Trainer")(
            model=model_of_words(), args=config, processing_class=tokenizer_of_words(),
            train_dataset=datasets.Dataset.from_list(rows), **{key: value() for key, value in more.items()},
        )  # fmt: skip
        return torch.tensor([[step["loss"], step["grad_norm"]] for step in steps(trainer)])

    theirs, ours, _ = by_both(compute)
    by_fastloss, by_torch = ft.calls()[name]
    assert by_fastloss >= 4 and by_torch == 0
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-5)
