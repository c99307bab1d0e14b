"""No row of the tables of annotations without tests: each is applied by one that sends requests and looks at what comes of
it, and each whose value can be malformed is tried with a malformed one."""

import ast
import pathlib
import re

import pytest

import test_annotations
import test_annotations_access
import test_annotations_nginx
from test_annotations import guide_rows, lab, shared_lab  # noqa: F401

HERE = pathlib.Path(__file__).parent
PREFIX = re.compile(r"^(nginx\.ingress\.kubernetes\.io|higress\.io)/")
ROWS = {**guide_rows("Higress's annotations"), **guide_rows("Further annotations of ingress-nginx"),
        **{"sluice.io/" + key: row for key, row in guide_rows("Sluice's own").items()}}
MALFORMED = {**test_annotations.MALFORMED, **test_annotations_access.MALFORMED, **test_annotations_nginx.MALFORMED}

# Any text is a value, or what is odd in it does no harm: with one that is. Those of which only a part can be looked at are
# told of (in test_snippet_…).
ANY_TEXT = {
    "auth-realm": 'a "b',
    "connection-proxy-header": "a b",
    "exact-match-query-*": "(",
    "fastcgi-index": "(",
    "fastcgi-params-configmap": "a/b/c",
    "http2rpc-name": "a b",
    "mcp-server-match-rule-domains": "(",
    "mcp-server-match-rule-value": "(",
    "mcp-sse-stateful-param-name": "(",
    "modsecurity-snippet": "(",
    "modsecurity-transaction-id": "(",
    "prefix-match-header-*": "(",
    "prefix-match-query-*": "(",
    "proxy-ssl-name": "a b",
    "stream-snippet": "x",
    "cors-allow-headers": "a b",
    "cors-allow-methods": "a b",
    "cors-expose-headers": "a b",
    "x-forwarded-prefix": "/a b",
}


def row_of(key):
    """The row that a key is of; None: it is no annotation."""
    name = PREFIX.sub("", key)
    if name in ROWS:
        return name
    return next((row for row in ROWS if row.endswith("*") and name.startswith(row[:-1])), None)


def sends_and_asserts(function):
    calls = {node.func.attr for node in ast.walk(function)
             if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)}
    names = {node.func.id for node in ast.walk(function) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    checks = any(isinstance(node, (ast.Assert, ast.With)) for node in ast.walk(function))
    return checks and bool(calls & {"get", "request", "response", "connect"} or names & {"ask", "connect", "endpoints_of", "over_tls"})


def keys_of(tree, function):
    """The keys of the dicts in a function, and the texts that its decorators give it; what they name of the
    module included."""
    constants = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id != "MALFORMED":
            constants[node.targets[0].id] = node.value
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("test_"):
            constants[node.name] = node  # a helper

    def texts(node):
        return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}
    found = set().union(*[texts(decorator) for decorator in function.decorator_list])
    names = {part.id for part in ast.walk(function) if isinstance(part, ast.Name)}
    for node in [function, *(value for name, value in constants.items() if name in names)]:
        for part in ast.walk(node):
            if isinstance(part, ast.Dict):
                found |= set().union(*[texts(key) for key in part.keys if key is not None])
    return found


def applied():
    """row → the functions that apply it and look at requests."""
    out = {}
    for path in sorted(HERE.glob("test_*.py")):
        if path.name == pathlib.Path(__file__).name:
            continue
        tree = ast.parse(path.read_text())
        for function in tree.body:
            if not isinstance(function, ast.FunctionDef) or not sends_and_asserts(function):
                continue
            if function.name.startswith("test_malformed"):
                continue
            for text in keys_of(tree, function):
                row = row_of(text)
                if row:
                    out.setdefault(row, set()).add(f"{path.name}::{function.name}")
    return out


def test_the_tables_are_read():
    assert len(ROWS) > 130 and ROWS["ssl-passthrough"][2] == "works"


def test_every_annotation_is_applied_by_a_test():
    assert sorted(set(ROWS) - set(applied())) == []


def test_every_annotation_is_tried_with_a_malformed_value():
    tried = {row_of(key) for key in MALFORMED}
    assert sorted(set(ROWS) - tried - set(ANY_TEXT)) == []
    assert sorted(set(ANY_TEXT) & tried) == [] and set(ANY_TEXT) <= set(ROWS)


@pytest.mark.parametrize("key", ANY_TEXT)
def test_odd_text_does_no_harm(lab, key):  # noqa: F811
    name = key[:-1] + "x" if key.endswith("*") else key
    host = lab.route({name: ANY_TEXT[key], "response-header-control-add": "x-other works"})
    told = [line for line in lab.messages(host).splitlines() if "warning: " not in line and "an older Ingress" not in line]
    assert told == []
    if key.endswith("*"):
        query, headers = ("?x=(", {}) if "query" in key else ("", {"x": "("})
        assert lab.get(host).status == 404 and lab.get(host, "/" + query, headers=headers).status == 200
    else:
        answer = lab.get(host)
        assert answer.status == 200 and answer.header("x-other") == "works"
