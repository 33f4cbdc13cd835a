"""No module imports itself through others, and none needs an extra to be imported by the command."""

import subprocess
import sys

import grimp

OF_EXTRAS = ["yaml", "rl_zoo3", "optuna", "ray", "h5py", "minari", "pygame", "huggingface_hub", "numba", "av"]


def test_imports_have_no_circles():
    # import-linter does not see circles through a package's ``__init__.py``
    graph = grimp.build_graph("sb3_pgfd", cache_dir=None)
    circles = [
        (module, imported)
        for module in sorted(graph.modules)
        for imported in sorted(graph.find_modules_directly_imported_by(module))
        if graph.chain_exists(importer=imported, imported=module)
    ]
    assert circles == []


def test_the_command_is_there_without_any_extra():
    # None in sys.modules refuses the import
    blocked = f"import sys; sys.modules.update(dict.fromkeys({OF_EXTRAS}))"
    code = f"{blocked}; from sb3_pgfd.cli import main; main(['demos', 'show', 'Pendulum-v1'])"
    assert "episodes" in subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
