"""What a curve of losses shows: findings with their evidence, and a picture."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastloss._curve.finding import Finding
from fastloss._engine import arguments

if TYPE_CHECKING:
    from fastloss._curve.diagnosis import Measured

__all__ = ["Finding", "LossCurve"]


class LossCurve:
    r"""Training and validation losses of a run, and what they show.

    ``loss = a + b * (step + c)**-d`` is the power law of a run that is right

    .. math:: L(t) = a + b\,(t + c)^{-d}

    with the asymptote :math:`a`. It is fitted to the curve, and says what more steps would bring. Choose it
    to read the log of a run, also while it runs.

    Parameters
    ----------
    unigram : float, optional
        The loss of a baseline, such as the entropy of the frequencies of the tokens, in the units of the
        losses. `diagnose` reports a model whose loss is not below it.

    See Also
    --------
    Finding : what `diagnose` returns.
    Perplexity : the exponential of a mean loss.

    References
    ----------
    Hestness et al., "Deep learning scaling is predictable, empirically", arXiv:1712.00409 (2017).

    Kaplan et al., "Scaling laws for neural language models", arXiv:2001.08361 (2020).

    Examples
    --------
    >>> import numpy as np, fastloss
    >>> curve = fastloss.LossCurve()
    >>> for step in range(1, 201):
    ...     curve = curve.update(step, train=2 + 3 * step**-0.5, validation=2 + 3 * step**-0.5 + step / 200)
    >>> [finding.kind for finding in curve.diagnose()]
    ['overfitting', 'falling']
    >>> curve.diagnose()[0].severity
    'act'
    """

    def __init__(self, unigram: float | None = None) -> None:
        self.unigram = None if unigram is None else arguments.number("unigram", unigram)
        # Steps and losses. Arrays of this kind grow fast, and NumPy copies them fast.
        self._train = (array("d"), array("d"))
        self._validation = (array("d"), array("d"))
        self._last = -math.inf

    def update(self, step: float, train: float | None = None, validation: float | None = None) -> LossCurve:
        """Add the losses that were measured at a step.

        Parameters
        ----------
        step : float
            The step. It may be that of the call before, as where training and validation come in two calls,
            but not a lower one.
        train, validation : float, optional
            The losses; None where there is no measurement. NaN is a measurement, which `diagnose` reports.

        Returns
        -------
        LossCurve
            The object itself, so that calls can be chained.

        Raises
        ------
        TypeError
            If an argument is not a number.
        ValueError
            If the step is not finite, or below the one before, or if a loss is an integer beyond float64.
            After an error nothing has been added.
        """
        at = arguments.number("step", step)
        if at < self._last:
            raise ValueError(f"step must not be below the step before, {self._last:g}; got {at:g}")
        losses = [_loss("train", train), _loss("validation", validation)]
        for (steps, values), loss in zip((self._train, self._validation), losses, strict=True):
            if loss is not None:
                steps.append(at)
                values.append(loss)
        self._last = at
        return self

    @classmethod
    def from_arrays(
        cls,
        steps: npt.ArrayLike,
        *,
        train: npt.ArrayLike | Sequence[float | None] | None = None,
        validation: npt.ArrayLike | Sequence[float | None] | None = None,
        unigram: float | None = None,
    ) -> LossCurve:
        """Return the curve of a run whose steps and losses are in arrays of one length.

        Parameters
        ----------
        steps : array_like with shape (N,)
            Steps that do not decrease.
        train : array_like with shape (N,), optional
            Training losses. None, or a masked element, is no measurement; NaN is one, which `diagnose`
            reports.
        validation : array_like with shape (N,), optional
            Validation losses. None, or a masked element, is no measurement. NaN is none either where no
            measurement was due. It is one where there is no training loss, where all are NaN, and, if there
            is a number every k rows, at k, 2 k, ... rows after the last number (irregular ones: k is the
            longest gap).
        unigram : float, optional
            The loss of a baseline, as in the constructor.

        Returns
        -------
        LossCurve
            The curve.

        Raises
        ------
        TypeError
            If an array does not hold numbers, or holds booleans.
        ValueError
            If lengths differ, if steps decrease or are not finite, or if there is neither `train` nor
            `validation`.
        """
        from fastloss._curve.columns import measurements

        curve = cls(unigram)
        curve._train, curve._validation, curve._last = measurements(steps, train, validation)
        return curve

    @classmethod
    def read(cls, path: str | PathLike[str], *, unigram: float | None = None) -> LossCurve:
        """Return the curve of a log: CSV with a header, JSON lines, or a Trainer's `trainer_state.json`.

        Parameters
        ----------
        path : str or path
            The file. Its columns are `step` (or `global_step`), `train` (or a Trainer's `loss`, or
            `train_loss`) and `validation` (or `eval_loss`, `val_loss`, `validation_loss`); others are not
            read. An empty cell, and null, are no measurements; NaN is read as by `from_arrays`. An incomplete
            last line of JSON is not read, as the run may be writing it.
        unigram : float, optional
            The loss of a baseline, as in the constructor.

        Returns
        -------
        LossCurve
            The curve.

        Raises
        ------
        OSError
            If the file cannot be read.
        ValueError
            If there is no column of steps or none of losses (the message lists those found), if a cell is not
            a number, or if steps decrease.
        """
        from fastloss._curve.read import read

        steps, train, validation = read(path)
        try:
            return cls.from_arrays(steps, train=train, validation=validation, unigram=unigram)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def diagnose(self) -> list[Finding]:
        """Return what the curve shows.

        Every finding has in its `evidence` a `size`, in units of the loss, and a `confidence` between 0 and
        1:

        - ``"falling"``: `size` is what as many steps again would bring by the fitted power law; `next`,
          `next_low` and `next_high` are the loss then with its 90 % interval; `level` is the loss now;
          `exponent` and `asymptote` are d and a. All of that is the training loss where there is one. With 8
          validation losses or more, or overfitting, `validation_trend` is ``"falling"``, ``"level"`` or
          ``"rising"``, and `validation_level`, `validation_next`, `validation_gain` and their intervals are
          the validation loss's own.
        - ``"plateau"``: level since `start`; `gain`, `gain_low`, `gain_high` are what as many steps again
          would bring.
        - ``"divergence"``: the loss has risen for good since `start`, by `size`, from `lowest` to `level`.
        - ``"non_finite"``: NaN, infinity, or more than 1e100; `size` says how many, `train` and `validation`
          in which.
        - ``"spike"``: isolated rises that return; `count`, their `steps`, the largest `size`, and the `share`
          of the measurements that belong to them.
        - ``"overfitting"``: the validation loss rises while the training loss does not; `best_step` is the
          step to go back to; `lowest` and `level` are the validation losses there and at the end;
          `train_change` is that of the training loss since.
        - ``"noise"``: the noise, `size`, is larger than the `progress` from first to last.
        - ``"leak"``: the validation loss is far under the training loss; `size`, and its `share` of the whole
          fall.
        - ``"underfitting"``: the `level` at the end is not below the baseline `unigram`.

        Returns
        -------
        list of Finding
            Those of severity ``"act"`` first, then by step. A run that is right has ``"falling"`` or
            ``"plateau"``. Fewer than 8 finite losses show no trend.

        Raises
        ------
        ValueError
            If there is no loss, a single one, or all are of one step.
        """
        from fastloss._curve.diagnosis import diagnose

        train, validation = self._measured()
        count = max(len(train[0]), len(validation[0]))
        finite = np.isfinite(np.concatenate([train[1], validation[1]])).all()
        if count < 2 and finite:
            raise ValueError(f"a curve must have at least 2 losses, got {count}")
        if finite and all(steps[0] == steps[-1] for steps, _ in (train, validation) if len(steps)):
            raise ValueError(f"a curve must have losses of at least 2 steps, got {count} of one step")
        return diagnose(train, validation, self.unigram)

    def plot(self, ax: Any = None) -> Any:
        """Draw both losses, the baseline, an axis of perplexity, and the findings.

        The legend names the findings. Each begins at a dashed line; the first, which matters most, is shaded.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw, by default a new figure. The figure is ``ax.figure``, with `savefig`.

        Returns
        -------
        matplotlib Axes
            The axes with the curve.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no loss.
        """
        from fastloss._curve.plot import plot

        measured = self._measured()
        is_single = max(len(losses) for _, losses in measured) == 1
        return plot(*measured, [] if is_single else self.diagnose(), self.unigram, ax)

    def _measured(self) -> tuple[Measured, Measured]:
        train, validation = (
            (np.array(steps), np.array(losses)) for steps, losses in (self._train, self._validation)
        )
        return train, validation

    def __repr__(self) -> str:
        train, validation = self._measured()
        return f"LossCurve({len(train[0])} training and {len(validation[0])} validation losses)"


def _loss(name: str, value: Any) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, (str, bytes, bool, np.bool_)):
            raise TypeError
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be within the range of float64, got a larger integer") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or None, got {value!r}") from None
