"""What more than one loss asks of its arguments. Nothing here looks at a tensor's values: on a GPU that would wait for the device."""

from torch import Tensor


def above_zero(loss: str, temperature: float | Tensor) -> None:
    """ValueError unless the temperature of `loss` is above 0; one that is a tensor (learnt) is taken as it is."""
    if not isinstance(temperature, Tensor) and not temperature > 0:
        raise ValueError(f"{loss}: temperature {temperature} must be above 0")
