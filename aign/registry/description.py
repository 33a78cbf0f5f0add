"""A model card in words: the description that a registered version carries in MLflow."""

from aign.inference.package import ModelCard


def described(card: ModelCard) -> str:
    """Markdown."""
    lines = [f"# {card.recipe} ({card.task})", ""]
    if card.intended_use:
        lines += ["## Intended use", "", card.intended_use, ""]
    if card.limits:
        lines += ["## Limits", "", *(f"- {limit}" for limit in card.limits), ""]
    lines += ["## Made of", "", f"- store {card.store_hash}", *(f"- licence: {text}" for text in card.licences)]
    lines += [f"- {role}: {len(names)} sequences" for role, names in card.sequences.items()]
    if card.metrics:
        lines += ["", f"## Measured ({card.protocol})", "", "| number | value |", "|:--|--:|"]
        lines += [f"| {name} | {value:.4g} |" for name, value in card.metrics.items()]
    return "\n".join(lines) + "\n"
