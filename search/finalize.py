"""Retrain a study's best trial on the full training set and score it on the test set, once."""

from __future__ import annotations

import sys
from contextlib import suppress

from search.terminal.command_line import as_called, for_shell
from search.terminal.commands import LOADING, Parser, log, positive_int, run, trial_number
from search.terminal.stopping import StopOnSignal

EXAMPLES = """
python -m search.finalize                        # the study that was worked on last
python -m search.finalize --study fashion_mnist  # another one
python -m search.finalize --seeds 5              # a tighter error bar
python -m search.finalize --candidates 3         # choose with fresh seeds first
python -m search.finalize --epochs 30            # train longer than the search did
python -m search.finalize --export onnx          # also a model that needs no PyTorch
python -m search.finalize --seeds 10 --ray auto  # on the nodes of a Ray cluster
"""


def parser() -> Parser:
    own = Parser(
        description="Retrain the best trial of a study on the full training set (validation images "
        "included) with several seeds, and evaluate it on the test set. Writes model, figures and "
        "a page to runs/<study>/final-N/ for the N-th test evaluation. The first one is the one to "
        "trust: runs/<study>/final is a link to it (copy final-1/, not the link, to hand it in). "
        "Each evaluation is recorded in the database.",
        examples=EXAMPLES,
    )
    own.add("study", "storage", "dataset")
    own.add_argument("--seeds", type=positive_int, default=3, metavar="N", help="number of runs")
    which = own.add_mutually_exclusive_group()
    which.add_argument(
        "--trial", type=trial_number, metavar="N", help="use this trial, not the best one"
    )
    which.add_argument("--arm", metavar="NAME", help="the best repeat of this arm of a comparison")
    which.add_argument(
        "--candidates",
        type=positive_int,
        metavar="K",
        help="first retrain the K best trials with fresh seeds, on the study's own split, and take "
        "the one with the lowest mean: a single run may have been lucky. Says how sure that is",
    )
    own.add_argument(
        "--candidate-seeds",
        type=positive_int,
        default=2,
        metavar="N",
        help="number of fresh seeds (default: 2); more of them show smaller differences",
    )
    own.add_argument(
        "--epochs",
        type=positive_int,
        metavar="E",
        help="train for E epochs, with the whole learning-rate schedule scaled to them, and with "
        "stronger augmentation if the trial memorised its images (default: the study's epochs "
        "times its final_stretch, which is 2 in the default study; without one, as many as the "
        "trial needed to reach its best value, with its schedule unchanged)",
    )
    own.add_argument("--export", choices=["onnx"], help="also write the model in this format")
    own.add_argument(
        "--now", action="store_true", help="even if the study does not have all of its trials yet"
    )
    own.add("device", "ray", "gpus-per-worker", "data-dir", "runs-dir")
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    log(LOADING)
    # Not needed for --help, and with torch they take seconds to import.
    from search.final.final import finalise
    from search.pages.final_page import final_text
    from search.training.epoch import StoppedError

    with StopOnSignal() as stopping, suppress(StoppedError):
        final = finalise(**vars(args), stop=stopping, progress=True)
        print(final_text(final.result))
        print(f"\nWritten to {final.folder}: model.safetensors, report.html and more")
        if final.exported is not None:
            print(f"Also written: {final.exported}")
        predict = as_called("python -m search.predict --bundle")
        print(f"Next: {predict} {for_shell([str(final.folder)])} PICTURE_OR_FOLDER")
        return 0
    print("Stopped, nothing is lost: the same command resumes.", file=sys.stderr)
    return stopping.exit_code


if __name__ == "__main__":
    run(main)
