"""Export what a study found: its tables for other tools, its finished network as an ONNX file."""

from __future__ import annotations

from search.terminal.command_line import hide_passwords
from search.terminal.commands import Parser, run

FORMATS = {
    "onnx": "the finished network, to run without PyTorch and this project: image bytes in, "
    "probabilities out, compared with PyTorch's",
    "csv": "trials, epochs and test evaluations, one file each",
    "json": "the same as lists of objects",
    "parquet": "the same with column types, for pandas, polars, DuckDB",
    "tensorboard": "event files, a folder for each trial: curves and hyperparameters",
    "mlflow": "a run for each trial, in FOLDER/mlflow.db or at a tracking URI",
}
EXAMPLES = """
python -m search.export                             # ONNX, of the network finished last
python -m search.export --bundle FOLDER             # of the network in that folder
python -m search.export --format csv --to tables    # the study that was worked on last
python -m search.export --format tensorboard --study mnist --to tb
python -m search.export --format mlflow --to http://localhost:5000
"""


def parser() -> Parser:
    own = Parser(
        description="Write a finished network as model.onnx beside it, or a study's trials, epochs "
        "and test evaluations for other tools. Only reads the database, also while the study runs; "
        "a repeated export replaces the previous one.",
        examples=EXAMPLES,
    )
    own.add_argument("--format", choices=FORMATS, default="onnx", help="see below")
    own.add_argument("--to", metavar="FOLDER", help="where tables go; for mlflow also a URI")
    own.add_network(", or tables (default: worked on last)")
    own.add("storage", "runs-dir")
    own.add_registry(
        "formats (pip install 'cnn-search[onnx]' for onnx, 'cnn-search[export]' for parquet, "
        "tensorboard and mlflow)",
        FORMATS,
    )
    return own


def main(argv: list[str] | None = None) -> int:
    own = parser()
    args = own.parse_args(argv)
    if (args.format == "onnx") == (args.to is not None):
        own.error("--format csv and the like need --to FOLDER; onnx is written beside its network")
    if args.to is not None and args.bundle is not None:
        own.error("--bundle is a network's folder, for --format onnx; name a --study")
    # Not needed for --help, and with torch they take seconds to import.
    if args.to is not None:
        from search.running.exports import export_study

        where = {"storage": args.storage, "runs_dir": args.runs_dir}
        made = export_study(args.study, to=args.to, format=args.format, **where)
        print(hide_passwords(f"Written: {made}"))
        return 0
    import torch

    from search.final.export import CHECKED, export_onnx
    from search.final.predict import bundle_folder
    from search.training.bundle import read_bundle

    folder = bundle_folder(args.bundle, args.study, args.runs_dir, args.storage)
    network = read_bundle(folder)
    noise = torch.Generator().manual_seed(0)
    shape = (CHECKED, *network.image_shape)
    images_NCHW = torch.randint(0, 256, shape, dtype=torch.uint8, generator=noise)
    print(f"Written to {folder}: {export_onnx(network, folder, images_NCHW)}")
    return 0


if __name__ == "__main__":
    run(main)
