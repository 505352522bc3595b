"""What the public functions of one family say of their shared parameters, results and errors.

``|x|`` is the first parameter, ``|mean|`` what ``"mean"`` divides by, ``|domain|`` what values must be. The
other texts are below, or given to `documented`.
"""

from __future__ import annotations

from fastloss._engine.documentation import Family
from fastloss._engine.options import DESCRIPTIONS

__all__ = [
    "ADAPTIVE",
    "ALIGNMENT",
    "BINARY",
    "CONTRASTIVE",
    "DISTRIBUTIONS",
    "DIVERGENCES",
    "ELEMENTWISE",
    "LINEAR",
    "LINEAR_DIVERGENCES",
    "LISTS",
    "PAIRS",
    "PENALTIES",
    "QUANTILES",
    "RANKING",
    "ROWS",
    "SURVIVAL",
    "TOKENS",
    "TRANSFORMS",
    "TYPES",
    "VECTORS",
]

TYPES = "float16, bfloat16 (of ml_dtypes), float32 or float64. Lists and integers become float64."

_LOSS = Family(
    parameters="""
reduction : {"mean", "sum", "none", "sum_and_count"}, default "|default_reduction|"
    ``"mean"`` divides by |mean|. ``"sum"`` adds. ``"none"`` returns |unreduced|. ``"sum_and_count"`` returns
    the sum and what the mean divides by. Those of the parts of a batch add up; gradients are those of the
    sum.
return_grad : bool, default False
    Also return the |gradient_or_gradients| with respect to |wanted|, computed in the same pass.
return_hessian : bool, default False
    Also return the second derivative of each element's loss with respect to that element. Needs
    `return_grad`.
grad_output : scalar, or array_like with the shape of the loss, optional
    The upstream gradient. It multiplies the |derivatives|, not the loss. Needs `return_grad`.
out : ndarray with the shape and dtype of `|x|`, optional
    Buffer for the gradient. It may be `|x|` itself (in place). Needs `return_grad`.
out_of_several : tuple of |count|, each an ndarray with the shape of its argument or None, optional
    Buffers for the gradients, in the order of the fields of `|Gradients|`, of the first argument's dtype.
    A buffer may be its own argument (in place). A gradient whose place holds None is not computed. Needs
    `return_grad`.
accumulate : bool, default False
    Add the gradient to the contents of `out`. Needs `out`.
accumulate_of_several : bool or tuple of |count| bools, default False
    Add the gradients to the contents of `out`: all of them, or those whose place in the tuple is True. Needs
    `out`.
num_threads : int, optional
    Number of threads of this call, by default the package setting. Results do not depend on it.
""",
    returns="""
loss : float, tuple of two floats, or ndarray with |loss_shape|
    A Python float for ``"mean"`` and ``"sum"``, a tuple of two for ``"sum_and_count"``. For ``"none"`` an
    array with the dtype of `|x|`, float32 for half types. |of_nothing| A count of nothing is 0.
grad : ndarray with the shape and dtype of `|x|`
    Only with `return_grad`. It is `out` if `out` was given.
grads : |Gradients|
    Only with `return_grad`: a named tuple ``(|fields|)`` of arrays with the shapes and dtypes of the
    arguments, None for a gradient that was not wanted.
hessian : ndarray with the shape and dtype of `|x|`
    Only with `return_hessian`. It is always a new array. ``"mean"`` divides it as well.
""",
    raises="""
TypeError
    If an argument has a type that cannot be used.
ValueError
    If a shape or an option is wrong, |outside|or if a buffer overlaps another argument. Nothing has been
    written to `out` then.
""",
    texts={
        "types": TYPES,
        "gradient_or_gradients": "gradient",
        "of_nothing": "The mean of no elements is NaN, their sum is 0.",
    },
)

ELEMENTWISE = _LOSS.varied(
    parameters="""
input : array_like of any shape
    Predictions; |types|
target : scalar or array_like with the shape of `|x|`
    Values to predict. Only a scalar broadcasts: (N,) against (N, 1) is an error. Values of another type are
    converted to the type of `|x|`.
weight : scalar or array_like with the shape of `|x|`, optional
    Weight of each element. Where it is 0, loss and derivatives are 0, even if the term is infinite
    (a NaN stays NaN).
check_domain : bool, default True
    Check that every |checked| is |domain|. If False, the formula is evaluated for any value; the result
    is then no likelihood or loss in its usual sense.
""",
    mean="the sum of the weights, or by the number of elements without `weight`",
    unreduced="the loss of each element",
    loss_shape="the shape of `|x|`",
    of_nothing=(
        "The mean of no elements is NaN, their sum is 0. A NaN in an argument gives NaN at that element "
        "alone."
    ),
    checked="target",
)

QUANTILES = ELEMENTWISE.varied(
    parameters="""
input : array_like with shape (..., Q)
    The predictions of `Q` quantiles; |types|
target : scalar or array_like with shape (...)
    Values to predict. Only a scalar broadcasts. Values of another type are converted to the type of `|x|`.
sample_weight : scalar or array_like with shape (...), optional
    Weight of each row. Where it is 0, loss and gradient are 0, even if the term is infinite (a NaN stays
    NaN).
""",
    unreduced="the loss of each row",
    loss_shape="shape (...)",
    of_nothing="The mean of no rows is NaN, their sum is 0. A NaN in a row gives NaN for that row alone.",
)

DISTRIBUTIONS = ELEMENTWISE.varied(
    parameters="""
out_of_several : tuple of |count|, ndarrays with the shape of `|x|` or None, optional
    Buffers for the gradients, in the order of the fields of `|Gradients|`, of the first argument's dtype.
    A buffer may be its own argument (in place). A gradient whose place holds None is not computed. The place
    of a parameter that is a scalar holds None: its gradient is a number. Needs `return_grad`.
""",
    returns="""
grads : |Gradients|
    Only with `return_grad`: a named tuple ``(|fields|)``, of arrays with the shape and dtype of `|x|`, None
    for an array that was not wanted, and a float for a parameter that is a scalar.
""",
    gradient_or_gradients="gradients",
)

BINARY = ELEMENTWISE.varied(
    parameters="""
logits : array_like of any shape
    Unnormalised scores; |types|
scores : array_like of any shape
    Scores, positive for class 1; |types|
probs : array_like of any shape
    Probabilities of class 1, in [0, 1]; |types|
target : scalar or array_like with the shape of `|x|`
    The classes: each must be |domain|. Only a scalar broadcasts. Values of another type are converted to the
    type of `|x|`.
""",
)

RANKING = _LOSS.varied(
    parameters="""
input1 : array_like of any shape
    Scores of the first of each pair; |types|
input2 : scalar or array_like with the shape of `input1`
    Scores of the second, converted to the dtype of `input1`. Only a scalar broadcasts.
target : scalar or array_like with the shape of `input1`
    1 where the first should score higher, -1 where the second should. Only a scalar broadcasts.
check_domain : bool, default True
    Check that every target is |domain|. If False, the formula is evaluated for any target.
out_of_several : tuple of two, each an ndarray with the shape and dtype of `input1` or None, optional
    Buffers for the gradients of `input1` and `input2`. Each may be its argument itself (in place). A gradient
    whose place holds None is not computed; a scalar `input2` needs None. Needs `return_grad`.
""",
    returns="""
grads : MarginRankingGradients
    Only with `return_grad`: a named tuple ``(input1, input2)`` of arrays with the shape and dtype of
    `input1`. `input2` is None for a scalar, and each is None if `out` has None in its place. The tuple can be
    passed again as `out`.
""",
    mean="the number of pairs",
    unreduced="the loss of each pair",
    loss_shape="the shape of `input1`",
    of_nothing=(
        "The mean of no pairs is NaN, their sum is 0. A NaN in an argument gives NaN at that pair alone."
    ),
    gradient_or_gradients="gradients",
)

PENALTIES = _LOSS.varied(
    parameters="""
params : array_like of any shape
    Parameters; |types|
""",
    mean='the number of parameters; the default of the penalties alone is ``"sum"``',
    unreduced="the penalty of each parameter",
    loss_shape="the shape of `params`",
    of_nothing="The sum over no parameters is 0, their mean is NaN. A NaN gives NaN at that element alone.",
)

ROWS = _LOSS.varied(
    parameters="""
logits : array_like with shape (..., C), or with the classes on `axis`
    Unnormalised scores; |types| Rows may have any strides and are not copied. A class at ``-inf`` is masked:
    its probability and gradient are 0.
log_probs : array_like with shape (..., C), or with the classes on `axis`
    Log-probabilities; |types| Rows may have any strides and are not copied.
scores : array_like with shape (..., C)
    A score for each class; |types| Rows may have any strides and are not copied.
target : array_like of int with shape (...)
    Class index of each row, of any integer type.
axis : int, default -1
    The axis of the classes: the last by default, where torch has axis 1.
weight : array_like with shape (C,), optional
    Weight of each class.
ignore_index : int, default -100
    Rows with this target have loss and gradient 0, and are not read.
sample_weight : scalar or array_like with shape (...), optional
    Weight of each row. A row of weight 0 has loss and gradient 0, even if its loss is infinite (a NaN stays
    NaN).
"""
    + DESCRIPTIONS,
    raises="""
IndexError
    If a class index is neither in ``[0, C)`` nor `ignore_index`. The message names the first one. Nothing has
    been written to `out` then.
""",
    mean="the sum, over the rows that are not ignored, of class weight times sample weight",
    unreduced="the loss of each row",
    loss_shape="shape (...)",
    of_nothing="The mean over no rows is NaN, their sum is 0.",
)

TRANSFORMS = _LOSS.varied(
    parameters="""
x : array_like of any shape, but at least one axis
    The input; |types| Rows may have any strides and are not copied.
axis : int, default -1
    The axis whose exponentials are added.
out : ndarray with the shape and dtype of `x`, optional
    Buffer for the result. It may be `x` itself (in place).
""",
    raises="""
ValueError
    If a shape or an option is wrong, or if `out` cannot be used.
""",
)

LINEAR = ROWS.varied(
    parameters="""
input : array_like with shape (..., D)
    The vectors of the tokens; |types| Half types are multiplied in float32, without a float32 copy of the
    whole of `linear_weight`, whose gradient is added up in float32 and rounded once.
linear_weight : array_like with shape (V, D)
    A row for each class, of the dtype of `input`.
linear_bias : array_like with shape (V,), optional
    Bias of each class, of the dtype of `input`.
weight : array_like with shape (V,), optional
    Weight of each class.
ignore_index : int, default -100
    Tokens with this target have value and gradient 0, and are not read.
sample_weight : scalar or array_like with shape (...), optional
    Weight of each token. A token of weight 0 has loss and gradient 0, even if its loss is infinite (a NaN
    stays NaN).
memory_budget : int, optional
    Bytes of logits that exist at a time, at least 1; the smallest block, some 128 classes of one token, may
    exceed it. By default it is the largest of 128 MiB, 256 tokens and a twenty-fifth, but at most 512 MiB for
    the 256 tokens. If the budget holds fewer than 80 tokens (512 for the value alone), the classes are cut
    into bands, and gradients take four products instead of three. Up to 256 MiB are kept for the next call;
    the system may reclaim them in between.
out_of_several : tuple of three, each an ndarray with the shape of its argument or None, optional
    Buffers for the gradients, in the order of the fields of `|Gradients|`, of the dtypes of their arguments
    and apart from all arguments. A gradient whose place holds None is not computed. Tuples that
    were returned can be passed again. Needs `return_grad`.
num_threads : int, optional
    Number of threads of the softmax in this call. By default the package setting, or one if there are few
    logits at a time and BLAS has threads of its own. Results do not depend on it. (Their last digits depend
    on how BLAS multiplies: on its threads and on the size of a chunk.)
""",
    raises="""
TypeError
    If an argument has a type that cannot be used, or if the three arrays differ in dtype.
ValueError
    If a shape or an option is wrong, or if a buffer overlaps an argument or another buffer. Nothing has been
    written to `out` then.
IndexError
    If a class index is neither in ``[0, V)`` nor `ignore_index`. The message names the first one. Nothing has
    been written to `out` then.
""",
    gradient_or_gradients="gradients",
)

ADAPTIVE = LINEAR.varied(
    parameters="""
input : array_like with shape (..., D)
    The vectors of the rows; |types| Half types are multiplied in float32, and every gradient is rounded once.
target : array_like of int with shape (...)
    Class index of each row, of any integer type: first the classes of the head, then those of each cluster.
head_weight : array_like with shape (V + K, D)
    A row for each of the V classes of the head, at least one, and behind these one for each of the K
    clusters; of the dtype of `input`.
tail_weights : sequence of K pairs of array_like, with shapes (H, D) and (C, H)
    For each cluster the projection to its width H, and the row of each of its C classes, of the dtype of
    `input`. H and C differ among clusters. There is at least one cluster.
head_bias : array_like with shape (V + K,), optional
    Bias of each entry of the head, of the dtype of `input`.
ignore_index : int, default -100
    Rows with this target have loss and gradient 0, and are not read.
memory_budget : int, optional
    Bytes of logits that exist at a time, as for `linear_cross_entropy`: of the head, then of each cluster.
    Beside them there are copies of the inputs of one cluster, and their projections.
out_of_several : tuple of four, in the order of the fields of `|Gradients|`, optional
    Buffers for the gradients, each with the shape and dtype of its argument or None, apart from all
    arguments; for `tail_weights` a tuple of pairs of them, or None. A gradient whose place holds None is not
    computed. Tuples that were returned can be passed again. Needs `return_grad`.
""",
    raises="""
TypeError
    If an argument has a type that cannot be used, or if the arrays differ in dtype.
IndexError
    If a class index is neither in ``[0, n_classes)`` nor `ignore_index`, with as many classes as head and
    clusters have. The message names the first one. Nothing has been written to `out` then.
""",
    returns="""
grads : |Gradients|
    Only with `return_grad`: a named tuple ``(|fields|)`` of arrays with the shapes and dtypes of the
    arguments, the last a tuple of pairs; None for a gradient that was not wanted.
""",
)

CONTRASTIVE = _LOSS.varied(
    parameters="""
query : array_like with shape (N, D)
    The vectors of one side; |types| Half types are multiplied in float32.
memory_budget : int, optional
    Bytes of similarities that exist at a time, at least 1; one query with all keys may exceed it. By default
    128 MiB, or 512 queries with all keys if these are larger, but at most 512 MiB. Beside them there are
    copies of `key` and of the queries of a chunk, if they are converted or divided by their lengths. Up to
    256 MiB are kept for the next call; the system may reclaim them in between.
out_of_several : tuple of |count|, ndarrays with the shapes of `query` and `key` or None, optional
    Buffers for the gradients, in the order of the fields of `|Gradients|`, of the dtypes of their arguments
    and apart from all arguments. A gradient whose place holds None is not computed, but |places| always
    holds None: that gradient is a number. Needs `return_grad`.
num_threads : int, optional
    Number of threads of this call beside those of the matrix products. By default the package setting, or one
    if there are few similarities at a time and BLAS has threads of its own. Results do not depend on it.
    (Their last digits depend on how BLAS multiplies: on its threads and on the size of a chunk.)
""",
    returns="""
grads : |Gradients|
    Only with `return_grad`: a named tuple ``(|fields|)``, of arrays with the shapes and dtypes of `query` and
    `key`, None for an array that was not wanted; for |numbers| floats.
""",
    raises="""
TypeError
    If an argument has a type that cannot be used, or if `query` and `key` differ in dtype.
ValueError
    If a shape or an option is wrong, or if a buffer overlaps an argument or another buffer. Nothing has been
    written to `out` then.
""",
    mean="the number of queries",
    unreduced="the loss of each query",
    loss_shape="shape (N,)",
    of_nothing="The mean over no queries is NaN, their sum is 0. A NaN in a query gives NaN at that query "
    "alone, one in a key gives NaN everywhere.",
    gradient_or_gradients="gradients",
)

VECTORS = _LOSS.varied(
    parameters="""
input1, input2 : array_like with shape (..., D), the same for both
    The vectors of each pair; |types| All is computed in float64, and rounded once. `input2` is converted to
    the dtype of `input1`.
anchor, positive, negative : array_like with shape (..., D), the same for all
    The vectors of each triple; |types| All is computed in float64, and rounded once. The dtype of `anchor`
    decides: the others are converted to it.
target : scalar or array_like with shape (...)
    1 for a pair that belongs together, else -1.
check_domain : bool, default True
    Check that every target is |domain|. If False, a pair with another target has loss 0.
""",
    unreduced="the loss of each |pair|",
    mean="the number of |pair|s",
    loss_shape="shape (...)",
    of_nothing=(
        "The mean of no |pair|s is NaN, their sum is 0. A NaN in a vector gives NaN at that |pair| alone."
    ),
    gradient_or_gradients="gradients",
)

ALIGNMENT = _LOSS.varied(
    parameters="""
log_probs : array_like with shape (T, N, C), or (T, C) for one sample
    Log-probabilities of each class at each step of each sample; |types| Steps and samples may have any
    strides and are not copied. Steps behind a sample's length are not read, and have gradient 0.
logits : array_like with shape (T, N, C), or (T, C) for one sample
    Unnormalised scores of each class at each step of each sample; |types| Steps and samples may have any
    strides and are not copied. Steps behind a sample's length are not read, and have gradient 0.
targets : array_like of int with shape (N, S), or (sum of target_lengths,)
    The labels of each sample, of any integer type: in a row of its own, of which the first `target_lengths`
    count, or those of all samples joined. A label that is the blank counts as a label, as in PyTorch.
input_lengths : array_like of int with shape (N,)
    The number of steps of each sample, from 0 to T. For one sample it may be a scalar.
target_lengths : array_like of int with shape (N,)
    The number of labels of each sample, from 0 to S. For one sample it may be a scalar.
blank : int, default 0
    The class that stands for no label.
zero_infinity : bool, default False
    Make infinite losses, those of samples without an alignment, and their gradients 0. Otherwise the
    gradient of such a sample is NaN.
""",
    raises="""
IndexError
    If a label or `blank` is not in ``[0, C)``. The message names the first one. Nothing has been written to
    `out` then.
""",
    mean="the number of samples, after each loss has been divided by its target length (or by 1)",
    unreduced="the loss of each sample",
    loss_shape="shape (N,), or () for one sample of shape (T, C)",
    of_nothing="The mean of no samples is NaN, their sum is 0. A NaN among what is read gives NaN for "
    "that sample alone.",
)

DIVERGENCES = _LOSS.varied(
    parameters="""
student_logits : array_like with shape (..., V), or with the classes on `axis`
    Unnormalised scores of the student; |types| Rows may have any strides and are not copied.
teacher_logits : array_like with the shape of `student_logits`
    Unnormalised scores of the teacher, converted to the dtype of `student_logits`.
axis : int, default -1
    The axis of the classes.
temperature : float, default 1.0
    Divisor of both logits, greater than 0.
mask : array_like of bool, or of 0 and 1, with shape (...), optional
    Rows that count; by default all. The others are not read and have value and gradient 0.
teacher_grad : bool, default False
    Also return the gradient with respect to `teacher_logits`. Needs `return_grad`.
return_grad : bool, default False
    Also return the gradient with respect to `student_logits`, computed in the same pass.
out : ndarray with the shape of `student_logits`, or tuple of two, optional
    Buffer for the gradient, with the dtype of `student_logits`. It may be `student_logits` itself
    (in place). With `teacher_grad` a tuple of buffers for both gradients; a gradient whose place holds None
    is not computed. Needs `return_grad`.
accumulate : bool, or tuple of two bools, default False
    Add the gradient to the contents of `out`. Needs `out`.
""",
    returns="""
grad : ndarray, or DivergenceGradients
    Only with `return_grad`: an array with the shape and dtype of `student_logits`; with `teacher_grad` a
    named tuple ``(student_logits, teacher_logits)`` of two, None for a gradient that was not wanted.
""",
    mean="the number of rows that count",
    unreduced="the divergence of each row",
    loss_shape="shape (...)",
    of_nothing="The mean of no rows is NaN without `mask`; with nothing under the mask it is 0.",
)

LINEAR_DIVERGENCES = LINEAR.varied(
    parameters="""
student_input : array_like with shape (..., D)
    The student's vectors of the tokens; |types| Half types are multiplied in float32, without a float32 copy
    of a whole weight. The gradient of `student_weight` is added up in float32 and rounded once.
student_weight : array_like with shape (V, D)
    The student's row for each class, of the dtype of `student_input`.
teacher_input : array_like with shape (..., E)
    The teacher's vectors of the same tokens, of any width and floating dtype. They are converted to the type
    of the computation, some tokens at a time.
teacher_weight : array_like with shape (V, E)
    The teacher's row for each of the same classes, of the dtype of `teacher_input`.
student_bias : array_like with shape (V,), optional
    The student's bias of each class, of the dtype of `student_input`.
teacher_bias : array_like with shape (V,), optional
    The teacher's bias of each class, of the dtype of `teacher_input`.
temperature : float, default 1.0
    Divisor of both (scaled and capped) logits in the divergence, greater than 0.
student_softcap, teacher_softcap : float, optional
    Bound `c` of the (scaled) logits of each, which become ``c * tanh(logits / c)``; greater than 0.
student_logit_scale, teacher_logit_scale : float, default 1.0
    Factor of the logits of each, bias included, applied before the softcap; greater than 0.
mask : array_like of bool, or of 0 and 1, with shape (...), optional
    Tokens that count; by default all. The others are not read, are left out of all products, and have value
    and gradient 0.
hard_target : array_like of int with shape (...), optional
    Class index of each token, of any integer type, for a share of cross-entropy in the loss. Needs
    `hard_share`.
hard_share : float, default 0.0
    The share, between 0 and 1, of the cross-entropy: the loss is ``(1 - hard_share) * divergence +
    hard_share * linear_cross_entropy`` of the student and `hard_target`, with the student's softcap and
    scale, but without `temperature`. At 1 the divergence does not count. Needs `hard_target`.
ignore_index : int, default -100
    Tokens with this hard target have no cross-entropy. Their divergence counts, so that the two parts have
    no count in common: ``"sum_and_count"`` is a `ValueError`.
return_entropy : bool, default False
    Also return the entropy of the student's distribution, which has no gradient.
memory_budget : int, optional
    Bytes of logits that exist at a time, half for each model, at least 1; the smallest block, the logits of
    one token, may exceed it. By default it is, for each model, the largest of 128 MiB, 256 tokens and a
    twenty-fifth, but at most 512 MiB for the 256 tokens. Up to 256 MiB are kept for the next call; the system
    may reclaim them in between.
""",
    returns="""
entropy : ndarray with shape (...)
    Only with `return_entropy`, of each token, at the same temperature; 0 outside the mask. Its dtype is that
    of `student_input`, float32 for half types.
""",
    raises="""
TypeError
    If an argument has a type that cannot be used, or if the three arrays of a model differ in dtype.
IndexError
    If a hard target is neither in ``[0, V)`` nor `ignore_index`, at a token under the mask. The message names
    the first one. Nothing has been written to `out` then.
""",
    mean="the number of tokens that count, that of the cross-entropy by the number of these whose hard "
    "target is not ignored",
    unreduced="the loss of each token",
    loss_shape="shape (...)",
    of_nothing="The mean of no tokens is NaN without `mask`; with nothing under the mask it is 0.",
)

PAIRS = _LOSS.varied(
    parameters="""
policy_chosen_logps, policy_rejected_logps : array_like of any shape, usually (N,), the same for both
    Log-probabilities of the chosen and of the rejected answers under the model in training; float16,
    bfloat16 (of ml_dtypes), float32 or float64. Lists and integers become float64. Both are computed in
    float64. The dtype of the first one is that of the results.
ref_chosen_logps, ref_rejected_logps : array_like with the shape of `policy_chosen_logps`, optional
    Log-probabilities of the same answers under the reference model.
beta : float, default 0.1
    Scale of the rewards, greater than 0.
label_smoothing : float, default 0.0
    The share of labels, between 0 and 1, that are taken to be wrong.
""",
    mean="the number of pairs",
    unreduced="the loss of each pair",
    loss_shape="the shape of `|x|`",
    of_nothing="The mean of no pairs is NaN.",
    gradient_or_gradients="gradients",
)

TOKENS = _LOSS.varied(
    parameters="""
logps : array_like of any shape, usually (B, T)
    Log-probabilities of the tokens under the policy in training, as `token_log_probs` returns them; float16,
    bfloat16 (of ml_dtypes), float32 or float64. Lists and integers become float64. Everything is computed in
    float64. The dtype of `logps` is that of the results.
old_logps : array_like with the shape of `logps`
    Log-probabilities of the tokens under the policy that generated them.
mask : array_like of bool, or of 0 and 1, with the shape of `|x|`, optional
    Tokens that count; by default all. The others are not read and have value and gradient 0.
""",
    mean="the number of tokens that count, at least 1",
    unreduced="the value of each token",
    loss_shape="the shape of `|x|`",
    of_nothing="If nothing is under the mask it is 0; the mean of empty arrays without a mask is NaN.",
)

LISTS = _LOSS.varied(
    parameters="""
scores : array_like with shape (n,)
    A score for each document; |types| Everything is computed in float64.
group_sizes : array_like of int with shape (groups,), optional
    How many documents each group (query) has, at least 0; they stand one group after the other, and the sizes
    add up to `n`. By default all documents are one group. An empty group has loss 0, and counts.
return_hessian : bool, default False
    Also return the diagonal of the second derivative. Needs `return_grad`.
""",
    mean="the number of groups",
    unreduced="the loss of each group",
    loss_shape="shape (groups,)",
    of_nothing="The mean over no groups is NaN, their sum is 0. A NaN gives NaN in its group alone.",
)

SURVIVAL = _LOSS.varied(
    parameters="""
log_hazard : array_like with shape (n,)
    The logarithm of each row's hazard over the baseline; |types| Sums are computed in float64.
time : array_like with shape (n,)
    Time of each row's event, or the last time at which it was seen without: at least 0, of any integer or
    floating type. Only the order counts.
event : array_like of bool, or of 0 and 1, with shape (n,)
    Whether the event happened, or else the row is censored.
weight : scalar or array_like with shape (n,), optional
    Weight of each row, finite and at least 0, in its own loss and in the risk sets of others. A row of weight
    0 counts for nothing.
return_hessian : bool, default False
    Also return the diagonal of the second derivative. Needs `return_grad`.
""",
    mean="the number of events, or the sum of their weights",
    unreduced="the loss of each row, which is 0 for a censored one",
    loss_shape="shape (n,)",
    of_nothing="Without an event the mean is NaN, the sum 0, the gradient 0. A NaN is in every risk set of "
    "its row.",
    domain="at least 0",
)
