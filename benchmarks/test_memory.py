"""In place there is no second array; of a linear layer there are never all logits."""

from benchmarks import memory


def test_in_place_takes_no_memory(is_small: bool) -> None:
    """The peak of a process that does nothing else; on small shapes only that it runs and is right."""
    share = memory.share_in_a_process_of_its_own(memory.SMALL if is_small else memory.SHAPE)
    assert is_small or share < memory.ALLOWED


def test_a_linear_layer_takes_few_logits(is_small: bool) -> None:
    """As above."""
    share = memory.share_in_a_process_of_its_own(memory.SMALL_LINEAR if is_small else memory.LINEAR)
    assert is_small or share <= memory.ALLOWED
