"""Figures as people read them: one line per image, and tables in Markdown."""

from collections.abc import Mapping, Sequence

LABELS = {key: key.upper() for key in ("psnr", "ssim", "psnr_y", "ssim_y", "psnrb", "psnrb_y")}


def formatted(figures: Mapping[str, float]) -> dict[str, str]:
    """PSNR in dB with two decimals, SSIM with four, by their labels."""
    return {LABELS[key]: f"{value:.4f}" if "ssim" in key else f"{value:.2f}" for key, value in figures.items()}


def describe(name: str, figures: Mapping[str, float]) -> str:
    """`baby   PSNR 33.51  SSIM 0.9094  ...`."""
    cells = (f"  {label} {text}" for label, text in formatted(figures).items())
    return f"{name:20}{''.join(cells)}".rstrip()


def markdown(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of rows with the same keys, its columns aligned also as plain text."""
    header = list(rows[0])
    cells = [header, *[[row[column] for column in header] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |" for line in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
