"""What stands beside the bar of a training."""

from gemkit.tuning.remark import training_remark

ROW = {
    "step": 3, "epoch": 0.5, "loss": 1.23456, "accuracy": 0.456, "tokens": 480, "slots": 512,
    "seconds": 0.25, "peak_memory": 3 * 2**30,
}  # fmt: skip


def test_a_step() -> None:
    assert training_remark(ROW) == "loss 1.235  right 46%  1,920 tokens/s  padding 6%  3.00 GiB"


def test_what_is_not_known_is_left_out() -> None:
    assert training_remark({"loss": 1.0, "tokens": 5, "seconds": 0.0}).startswith("loss 1.000  5,0")


def test_a_validation() -> None:
    measured = {"step": 3, "epoch": 0.5, "valid_loss": 0.5, "valid_macro_f1": 0.75}
    assert training_remark(measured) == "loss 0.500  macro_f1 0.750"
