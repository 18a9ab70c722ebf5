"""How one safety is taken out of a source text. A change that does not fit the text exactly is an error."""

import ast
from dataclasses import dataclass
from typing import Protocol


class Unfit(Exception):
    """The source is no longer what a mutant was written for."""


class Change(Protocol):
    def applied_to(self, source: str) -> str:
        """The changed source. Raises Unfit."""
        ...


@dataclass(frozen=True)
class Text:
    """Replace a piece of a file that is not Python. It must stand there exactly once."""

    old: str
    new: str

    def applied_to(self, source: str) -> str:
        _once(source.count(self.old), self.old)
        return source.replace(self.old, self.new)


@dataclass(frozen=True)
class Quoted:
    """Replace a piece of SQL in a file of Python. It must stand there exactly once, inside one string constant."""

    old: str
    new: str

    def applied_to(self, source: str) -> str:
        strings = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
        inside = [text for text in strings if isinstance(text, str) and self.old in text]
        _once(len(inside) if source.count(self.old) == 1 else source.count(self.old), self.old)
        return source.replace(self.old, self.new)


@dataclass(frozen=True)
class Expression:
    """Replace an expression of a function, compared by its syntax tree; it must stand there exactly once."""

    function: str
    old: str
    new: str

    def applied_to(self, source: str) -> str:
        tree = ast.parse(source)
        swap = _Swap(_expression(self.old), _expression(self.new))
        swap.visit(_function(tree, self.function))
        _once(swap.count, self.old)
        return ast.unparse(tree)


@dataclass(frozen=True)
class Statement:
    """Replace a statement of a function by others, or by none; it must stand there exactly once."""

    function: str
    old: str
    new: str = ""

    def applied_to(self, source: str) -> str:
        tree, (old,) = ast.parse(source), ast.parse(self.old).body
        swap = _Replace(old, ast.parse(self.new or "pass").body)
        swap.visit(_function(tree, self.function))
        _once(swap.count, self.old)
        return ast.unparse(tree)


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.expr, new: ast.expr) -> None:
        self.count = 0
        self._old, self._new = ast.dump(old), new

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, ast.expr) and ast.dump(node) == self._old:
            self.count += 1
            return self._new
        return self.generic_visit(node)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.stmt, new: list[ast.stmt]) -> None:
        self.count = 0
        self._old, self._new = ast.dump(old), new

    def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:
        if isinstance(node, ast.stmt) and ast.dump(node) == self._old:
            self.count += 1
            return self._new
        return self.generic_visit(node)


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _function(tree: ast.Module, path: str) -> ast.AST:
    """The function `name`, or `Class.name`."""
    scope: ast.AST = tree
    for name in path.split("."):
        found = [
            node
            for node in ast.iter_child_nodes(scope)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name
        ]
        _once(len(found), path)
        scope = found[0]
    return scope


def _once(count: int, what: str) -> None:
    if count != 1:
        raise Unfit(f"found {count} times instead of once: {what}")
