"""Write a finished network as an ONNX file, which runs without PyTorch and this project."""

from __future__ import annotations

from search.terminal.commands import Parser, run

EXAMPLES = """
python -m search.export                  # the network that was finished last
python -m search.export --study mnist    # another one
python -m search.export --bundle FOLDER  # wherever it lies
"""


def parser() -> Parser:
    own = Parser(
        description="Write model.onnx beside a network that python -m search.finalize wrote: bytes "
        "of an image in, probabilities out. Its logits are compared with PyTorch's first.",
        examples=EXAMPLES,
    )
    own.add_network()
    own.add("runs-dir")
    return own


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    # Not needed for --help, and with torch they take seconds to import.
    import torch

    from search.final.export import CHECKED, export_onnx
    from search.final.predict import bundle_folder
    from search.training.bundle import read_bundle

    folder = bundle_folder(args.bundle, args.study, args.runs_dir)
    bundle = read_bundle(folder)
    noise = torch.Generator().manual_seed(0)
    shape = (CHECKED, *bundle.image_shape)
    images_NCHW = torch.randint(0, 256, shape, dtype=torch.uint8, generator=noise)
    print(f"Written to {folder}: {export_onnx(bundle, folder, images_NCHW)}")
    return 0


if __name__ == "__main__":
    run(main)
