"""A curve of straight pieces, as the operators of an ONNX graph."""

import numpy as np

STEPS = (("Sub", "from"), ("Mul", "per"), ("Clip", "none", "all"), ("MatMul", "rise"), ("Add", "first"))


def draw_curve(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The constants of `STEPS` for the curve through the points `x`, ascending, and `y`, level outside them, as in `np.interp`.

    Each step takes the answer of the one before, the first of them numbers of shape (rows, 1), and the constants that it names.
    The last answers the curve there, in float32: the sum over its pieces of the share that was climbed times the rise.
    """
    x, y = np.append(x, x[-1] + 1), np.append(y, y[-1])  # one point is a curve too
    constants = {"from": x[:-1], "per": 1 / np.diff(x), "none": 0, "all": 1, "rise": np.diff(y)[:, None], "first": y[0]}
    return {name: np.asarray(constant, dtype=np.float32) for name, constant in constants.items()}
