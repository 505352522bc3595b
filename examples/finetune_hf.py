"""Train with Hugging Face's trainers, with and without fastloss: the same curve, in less time and memory.

Three scripts are unchanged programs of their libraries: a ``Trainer`` of transformers, an ``SFTTrainer`` and
a ``DPOTrainer`` of TRL. The models are made from configurations, the tokenizer is trained on the spot, and
the text is Python's own documentation, so nothing is loaded from a hub. One line before the trainer is all
that differs:

    fastloss.torch.install()                # the losses of transformers and TRL
    fastloss.torch.without_logits(model)    # beyond it, for Trainer: no logits in training

Each run has its own process, in which peak memory is measured. Runs of a script start from the same weights
and read the same batches. The picture has their curves, the time of a step and the peak memory side by side.

Run it with ``python examples/finetune_hf.py``; ``--help`` lists the options. It needs transformers and TRL
(``pip install transformers trl``), and matplotlib for the picture.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from examples import train_language_model as lm
else:  # the same folder, by its name in an installed fastloss
    from fastloss._examples import train_language_model as lm

# The values of --quick.
QUICK = {"steps": 3, "vocabulary": 300, "width": 16, "layers": 1, "batch": 2, "length": 16}
# Curves may differ by rounding errors, which grow in training.
TOLERANCE = 1e-4
SCRIPTS = ("Trainer", "SFTTrainer", "DPOTrainer")
# The trainer alone, and with one line before it. TRL has its own way without logits, which install() takes.
PLAIN = "as it is"
WAYS = {
    "Trainer": (PLAIN, "install()", "without_logits(model)"),
    "SFTTrainer": (PLAIN, "install()"),
    "DPOTrainer": (PLAIN, "install()"),
}


# ----------------------------------------------------------------------------------- the scripts


def make_tokenizer(text: str, vocabulary: int) -> Any:
    """Train a byte-level tokenizer on the text."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        [text], vocab_size=vocabulary, special_tokens=["<end>"], show_progress=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token="<end>", pad_token="<end>", bos_token="<end>"
    )


def make_model(options: argparse.Namespace) -> Any:
    """Make a small GPT-2 with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel, set_seed

    set_seed(options.seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=options.vocabulary, n_embd=options.width, n_layer=options.layers,
            n_head=max(1, options.width // 64), n_positions=options.length, bos_token_id=0, eos_token_id=0,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip


def paragraphs(text: str) -> list[str]:
    """Return the longer paragraphs of a text."""
    return [one for part in re.split(r"\n\s*\n", text) if len(one := " ".join(part.split())) > 200]


def arguments_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that the trainers share.

    All train in float32, so that their curves can be compared. TRL's default is bfloat16, which rounds its
    logits by up to 0.4 %, but not those of fastloss.
    """
    return {
        "per_device_train_batch_size": options.batch, "max_steps": options.steps, "logging_steps": 1,
        "learning_rate": options.rate, "lr_scheduler_type": "constant", "save_strategy": "no",
        "bf16": False, "report_to": [], "disable_tqdm": True, "use_cpu": True, "seed": options.seed,
        "output_dir": options.folder,
    }  # fmt: skip


def trainer_of_transformers(options: argparse.Namespace, text: str, model: Any, tokenizer: Any) -> Any:
    """Continue text: windows of tokens, each predicted from those before it."""
    from transformers import Trainer, TrainingArguments

    ids = tokenizer(text)["input_ids"]
    starts = range(0, len(ids) - options.length, options.length)
    windows = [ids[start : start + options.length] for start in starts]
    data = [{"input_ids": window, "labels": window} for window in windows]
    return Trainer(model=model, args=TrainingArguments(**arguments_of(options)), train_dataset=data)


def trainer_of_answers(options: argparse.Namespace, text: str, model: Any, tokenizer: Any) -> Any:
    """Complete paragraphs: their first 20 characters are not learned."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [{"prompt": one[:20], "completion": one[20:]} for one in paragraphs(text)]
    rows = rows[: 4 * options.steps * options.batch]
    return SFTTrainer(
        model=model, args=SFTConfig(max_length=options.length, **arguments_of(options)),
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
    )  # fmt: skip


def trainer_of_preferences(options: argparse.Namespace, text: str, model: Any, tokenizer: Any) -> Any:
    """Prefer the continuation of a paragraph to that of the next one."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    texts = paragraphs(text)
    rows = [
        {"prompt": one[:20], "chosen": one[20:200], "rejected": other[20:200]}
        for one, other in itertools.pairwise(texts)
    ][: 4 * options.steps * options.batch]
    return DPOTrainer(
        model=model, ref_model=copy.deepcopy(model),
        args=DPOConfig(max_length=options.length, **arguments_of(options)),
        train_dataset=Dataset.from_list(rows), processing_class=tokenizer,
    )  # fmt: skip


TRAINERS = dict(
    zip(SCRIPTS, (trainer_of_transformers, trainer_of_answers, trainer_of_preferences), strict=True)
)


# ------------------------------------------------------------------------ a process for each run


def peak_bytes() -> int:
    """Return the peak memory of this process; 0 if unknown."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def work(options: argparse.Namespace) -> None:
    """Train in one way, and print the result as the last line."""
    import torch
    from transformers import TrainerCallback
    from transformers.utils import logging

    import fastloss.torch

    logging.set_verbosity_error()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    text = lm.read_text(options.text)[: options.characters]
    tokenizer, model = make_tokenizer(text, options.vocabulary), make_model(options)
    if options.way == "without_logits(model)":
        fastloss.torch.without_logits(model)
    elif options.way == "install()":
        if options.script != "Trainer":
            import trl.trainer.utils  # noqa: F401, as install() takes what has been imported
        fastloss.torch.install()
    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(-time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times[-1] += time.perf_counter()

    trainer = TRAINERS[options.script](options, text, model, tokenizer)
    trainer.add_callback(Clock())
    before = peak_bytes()
    with contextlib.redirect_stdout(sys.stderr):
        trainer.train()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    print(json.dumps({"losses": losses, "times": times, "peak": peak_bytes(), "before": before}))


@dataclass
class Run:
    """A way of a script, and its results: peak memory with and without what training added."""

    script: str
    way: str
    losses: list[float]
    times: list[float]
    peak: int
    before: int

    def seconds(self) -> float:
        """Return the median time of a step, without the first."""
        return statistics.median(self.times[1:] or self.times)


def run(script: str, way: str, options: argparse.Namespace) -> Run:
    """Train in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        given = {**vars(options), "script": script, "way": way, "folder": folder}
        given["text"] = None if options.text is None else str(options.text)
        done = subprocess.run(
            [sys.executable, __file__, "--work", json.dumps(given)], capture_output=True, text=True,
            check=False, env={**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{script}, {way}:\n{done.stderr}")
    return Run(script, way, **json.loads(done.stdout.splitlines()[-1]))


# ------------------------------------------------------------------------------------ the results


def largest_difference(runs: list[Run]) -> float:
    """Return the largest difference of a curve from that of the trainer as it is."""
    first, *others = runs
    if any(len(one.losses) != len(first.losses) for one in others):
        return float("nan")
    return max(abs(a - b) for one in others for a, b in zip(one.losses, first.losses, strict=True))


def report(runs: list[Run]) -> bool:
    """Print the table of a script, and return whether its curves are equal."""
    first, difference = runs[0], largest_difference(runs)
    for one in runs:
        added = (one.peak - one.before) / 1e6
        print(
            f"{one.script:12} {one.way:24} last loss {one.losses[-1]:9.6f}   {one.seconds():8.4f} s a step "
            f"({first.seconds() / one.seconds():4.2f} times as fast)   {added:7.0f} MB"
        )
    is_same = difference <= TOLERANCE
    print(f"{'The same curve' if is_same else 'THE CURVES DISAGREE'} (to {difference:.0e})\n", flush=True)
    return is_same


def plot(path: Path, tables: list[list[Run]]) -> None:
    """Draw the curves of each script, the time of a step, and the memory that training took."""
    pyplot = lm.load_pyplot()
    if pyplot is None:
        return
    figure, axes = pyplot.subplots(len(tables), 3, figsize=(12, 3 * len(tables)), squeeze=False)
    for (curves, seconds, memory), runs in zip(axes, tables, strict=True):
        for k, one in enumerate(runs):
            curves.plot(
                range(1, len(one.losses) + 1), one.losses, label=one.way, linewidth=5 - 2 * k, alpha=0.8
            )
        ways = [one.way for one in runs]
        seconds.barh(ways, [one.seconds() for one in runs])
        memory.barh(ways, [(one.peak - one.before) / 1e6 for one in runs])
        curves.set(title=f"{runs[0].script}: loss", xlabel="step")
        seconds.set(title="seconds a step")
        memory.set(title="MB that training adds")
        curves.legend()
        seconds.invert_yaxis()
        memory.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path)
    print(f"Picture written to {path}.")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        description="Train with the trainers of transformers and TRL, with and without fastloss.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="a few steps of tiny models, in which no loss takes long")
    add("--scripts", nargs="+", choices=SCRIPTS, default=list(SCRIPTS), help="the trainers")
    add("--text", type=Path, metavar="FILE", help="text to learn; without it, Python's own docs")
    add("--characters", type=lm.positive, default=300_000, help="of the text that are read")
    add("--seed", type=int, default=0, help="seed of the random numbers")
    add("--vocabulary", type=lm.positive, default=50257, help="rows of the table of words, as GPT-2 has")
    add("--width", type=lm.positive, default=128, help="numbers per word vector")
    add("--layers", type=lm.positive, default=2, help="blocks of the model")
    add("--batch", type=lm.positive, default=8, help="sequences in a batch")
    add("--length", type=lm.positive, default=128, help="tokens in a sequence")
    add("--steps", type=lm.positive, default=6, help="steps of training")
    add("--rate", type=float, default=1e-3, help="learning rate")
    add("--threads", type=lm.positive, help="threads of PyTorch; by default as many as it chooses")
    add("--plot", type=Path, default=Path("finetune_hf.png"), metavar="FILE", help="the picture")
    add("--work", help=argparse.SUPPRESS)
    return parser


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Parse the command line; its options take precedence over --quick."""
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args(argv)
    return options


def main(argv: list[str] | None = None) -> int:
    """Run the example; the exit status is 1 if curves disagree."""
    options = parse(argv)
    if options.work is not None:
        given = json.loads(options.work)
        given["text"] = None if given["text"] is None else Path(given["text"])
        work(argparse.Namespace(**given))
        return 0
    del options.work, options.quick
    path, scripts = vars(options).pop("plot"), vars(options).pop("scripts")
    tables = [[run(script, way, options) for way in WAYS[script]] for script in scripts]
    are_same = [report(runs) for runs in tables]
    plot(path, tables)
    return 0 if all(are_same) else 1


if __name__ == "__main__":
    sys.exit(main())
