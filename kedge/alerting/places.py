"""Where in their files the fields of rules are written, for whoever speaks of a rule that is right. Pure."""

from collections.abc import Mapping

from kedge.yamlfile import YamlFile, parse_yaml

Spot = tuple[str, int, int]
"""File, line and column, from 1."""


class Places:
    """The rules of some files, by name."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        """`texts` by the files' names, each of them YAML; raises YamlError."""
        self._rules: dict[str, tuple[YamlFile, int]] = {}
        for name, text in texts.items():
            file = parse_yaml(text, name)
            rules = file.data.get("rules") if isinstance(file.data, Mapping) else None
            for i, node in enumerate(rules or ()):
                if isinstance(node, Mapping) and "name" in node:
                    self._rules.setdefault(str(node["name"]), (file, i))

    def of(self, rule: str, field: str = "") -> Spot | None:
        """A field's, that of the defaults where it is written there, else the rule's own; None: there is no
        such rule."""
        if rule not in self._rules:
            return None
        file, i = self._rules[rule]
        node, defaults = file.data["rules"][i], file.data.get("defaults") or {}
        if field in node:
            return (file.name, *file.position(("rules", i, field)))
        if field in defaults:
            return (file.name, *file.position(("defaults", field)))
        return (file.name, *file.position(("rules", i)))
