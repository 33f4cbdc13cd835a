"""Numbers near zero in updates."""

import pytest
import torch as th

from sb3_pgfd.common.optimization import without_denormals


@pytest.mark.parametrize("was_on", [False, True])
def test_numbers_below_the_normal_ones_are_0_within_an_update_alone(was_on: bool) -> None:
    assert th.set_flush_denormal(was_on), "this processor cannot"
    smallest = th.tensor(1e-40)
    try:
        with without_denormals():
            assert smallest * 1.0 == 0.0
        assert bool(smallest * 1.0 == 0.0) == was_on
    finally:
        th.set_flush_denormal(False)


def test_the_setting_is_as_before_when_an_update_fails() -> None:
    @without_denormals()
    def update() -> None:
        raise ValueError("diverged")

    with pytest.raises(ValueError, match="diverged"):
        update()
    assert th.tensor(1e-40) * 1.0 != 0.0
