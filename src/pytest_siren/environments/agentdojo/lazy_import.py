"""Imports AgentDojo's suites without the SDKs of five model providers, which no suite uses.

The package ``agentdojo.agent_pipeline`` imports all of its pipelines, and with them openai,
anthropic, cohere, google.genai and vertexai: some 2 s of CPU in every process. Its suites need two
small modules of it. So while they are imported, the modules in ``_PUT_OFF`` are made but not yet
executed; access to an attribute that such a module does not have yet executes it, in place, and
returns the real attribute.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from threading import RLock
from types import ModuleType
from typing import Any

_PUT_OFF = ("agentdojo.agent_pipeline", "agentdojo.agent_pipeline.llms.google_llm")
"""The second defines a constant that the execution of tools needs."""

_HARMLESS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
"""Statements that only define names, so it does not matter when they are executed."""


@contextmanager
def without_sdks() -> Iterator[None]:
    """Inside the context, defer the imports of AgentDojo that suites do not need.

    Warnings of what is imported are not shown: the package and the SDKs warn on import, and a
    project that turns warnings into errors must still be able to use it. What has been imported
    before, and a layout of the package that is not known here, stay as they are.
    """
    finder = _Finder()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    """Finds the deferred modules, at their normal locations."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _PUT_OFF:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        # The exact type: subclasses, such as pytest's loader of rewritten tests, do more.
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        source = spec.loader.get_source(fullname) or ""
        statements = ast.parse(source).body
        if not all(isinstance(each, _HARMLESS) or _is_text(each) for each in statements):
            return None
        spec.loader = _Loader(spec.loader.name, spec.loader.path, _constants(statements))
        return spec


def _is_text(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _constants(statements: Sequence[ast.stmt]) -> dict[str, Any]:
    """Return the names that are bound exactly once, to a number or text, with their values."""
    bound: Counter[str] = Counter()
    values: dict[str, Any] = {}
    for each in statements:
        names = list(_bound(each))
        bound.update(names)
        value = each.value if isinstance(each, ast.Assign | ast.AnnAssign) else None
        if isinstance(value, ast.Constant):
            values.update(dict.fromkeys(names, value.value))
    return {name: value for name, value in values.items() if bound[name] == 1 and not bound["*"]}


def _bound(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for alias in statement.names:
            yield alias.asname or alias.name.partition(".")[0]
    elif isinstance(statement, ast.FunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


class _Loader(SourceFileLoader):
    """Creates a module that is executed on access to an attribute that it does not have yet."""

    def __init__(self, fullname: str, path: str, constants: dict[str, Any]) -> None:
        super().__init__(fullname, path)
        self._constants = constants

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Unexecuted(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        loader = SourceFileLoader(self.name, self.path)
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = loader
        vars(module).update(self._constants)
        vars(module)[_EXECUTION] = _Execution(loader)


_EXECUTION = "__pytest_siren_execution__"


class _Execution:
    """The execution of one module, which happens once."""

    def __init__(self, loader: SourceFileLoader) -> None:
        self._loader = loader
        self._lock = RLock()
        self._begun = False

    def of(self, module: ModuleType) -> None:
        """Execute ``module``; other threads wait, circular imports see the attributes so far."""
        with self._lock:
            if self._begun:
                return
            self._begun = True
            try:
                self._loader.exec_module(module)
            except BaseException:
                self._begun = False
                raise
            vars(module).pop(_EXECUTION, None)
            module.__class__ = ModuleType


class _Unexecuted(ModuleType):
    """A module with its location and constants, whose code has not been executed yet."""

    def __getattr__(self, name: str) -> Any:
        # Code that scans all modules asks for such names, which these modules do not have.
        dunder = name.startswith("__") and name.endswith("__") and name != "__all__"
        if not dunder:
            self._execute()
            if name in vars(self):
                return vars(self)[name]
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        self._execute()
        return sorted(vars(self))

    def _execute(self) -> None:
        execution = vars(self).get(_EXECUTION)
        if execution is not None:
            execution.of(self)
