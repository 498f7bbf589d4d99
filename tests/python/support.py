"""What the tests of the Python package share."""

import importlib
import sys


def skip_without(*modules):
    """The modules, or the end of the test: 77 is what ctest takes for skipped."""
    found = []
    for module in modules:
        try:
            found.append(importlib.import_module(module))
        except ImportError as error:
            print(f"SKIPPED: {error}: launch/setup.sh --with-transformers fetches what this test needs")
            sys.exit(77)
    return found
