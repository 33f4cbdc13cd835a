"""The RL Zoo's ``args.yml`` and ``config.yml``, read without running anything that they name."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from sb3_pgfd.comparison.errors import ComparisonError

_ORDERED_DICT = "tag:yaml.org,2002:python/object/apply:collections.OrderedDict"


def read_settings(path: Path) -> dict[str, Any]:
    """
    :param path: Of a YAML file with a mapping, or the ``OrderedDict`` that the Zoo writes
    :return: Its plain values; objects of any other Python class are None
    :raises ComparisonError: If the file cannot be read or holds something else
    :raises ImportError: If PyYAML is not installed
    """
    try:
        import yaml
    except ImportError as error:
        raise ImportError(f"{path}: settings of a run need PyYAML ({error}): pip install sb3-pgfd[zoo]") from error
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader())
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ComparisonError(f"{path}: found a file that cannot be read ({reason}), expected YAML of the RL Zoo") from error
    if not isinstance(content, dict):
        raise ComparisonError(f"{path}: found {type(content).__name__}, expected names with values, as the RL Zoo writes")
    return content


@lru_cache(maxsize=1)
def _loader() -> Any:
    import yaml

    class PlainLoader(yaml.SafeLoader):
        """Knows ordered dictionaries. Every other tag that a safe loader refuses becomes None."""

    def ordered_dict(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
        arguments: Any = loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else None
        try:
            return dict(*arguments)
        except (TypeError, ValueError) as error:
            raise yaml.constructor.ConstructorError(None, None, "found no list of pairs", node.start_mark) from error

    PlainLoader.add_constructor(_ORDERED_DICT, ordered_dict)
    PlainLoader.add_constructor(None, lambda loader, node: None)
    return PlainLoader
