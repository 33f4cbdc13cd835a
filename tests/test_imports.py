"""No module imports itself through others. import-linter does not see circles through a package's ``__init__.py``."""

import grimp


def test_imports_have_no_circles():
    graph = grimp.build_graph("sb3_pgfd", cache_dir=None)
    circles = [
        (module, imported)
        for module in sorted(graph.modules)
        for imported in sorted(graph.find_modules_directly_imported_by(module))
        if graph.chain_exists(importer=imported, imported=module)
    ]
    assert circles == []
