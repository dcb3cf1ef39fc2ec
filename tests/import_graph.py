"""The imports of the product code, read from its source: which module imports which, and how."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("transtailor", "hpc", "tailor", "results", "sweeps")
PRODUCT = (*ROOMS, "tools")

Edges = dict[str, set[str]]


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file of every module below the product's folders."""
    return {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for room in PRODUCT
        for path in sorted((root / room).rglob("*.py"))
    }


def names_imported(path: Path) -> Iterator[str]:
    """Dotted names of everything that a file imports: at its top, inside functions, and only for type checkers."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (arg.value for arg in node.args if isinstance(arg, ast.Constant))


def module_imports(root: Path = ROOT) -> Edges:
    """Module -> the modules of ours that it imports, eagerly, lazily or for types."""
    known = modules(root)
    empty = {name for name, path in known.items() if path.name == "__init__.py" and _is_empty(path)}
    edges: Edges = {}
    for name, path in known.items():
        found = set(names_imported(path))
        # `from tailor.model import state` imports the module `state`, and no name of the package.
        packages = {one.rpartition(".")[0] for one in found if one in known}
        edges[name] = {one for one in found if one in known and not (one in packages and one in empty)} - {name}
    return edges


def package_imports(root: Path = ROOT) -> Edges:
    """Package -> our other packages that its modules import; a module next to a room's packages counts as one."""
    edges: Edges = {}
    for name, imported in module_imports(root).items():
        own = _package_of(name, root)
        edges.setdefault(own, set()).update({_package_of(one, root) for one in imported} - {own})
    return edges


def circles(edges: Edges) -> list[list[str]]:
    """The sets of nodes that reach each other, each sorted (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in edges.get(node, ()):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            where = stack.index(node)
            found.append(sorted(stack[where:]))
            del stack[where:]

    for node in edges:
        if node not in index:
            visit(node)
    return [circle for circle in found if len(circle) > 1]


def _is_empty(path: Path) -> bool:
    """Whether a package's own file has no code but its docstring."""
    return len(ast.parse(path.read_text()).body) <= 1


def _package_of(name: str, root: Path) -> str:
    if (root / name.replace(".", "/")).is_dir():
        return name
    package = name.rpartition(".")[0]
    return name if package in PRODUCT else package
