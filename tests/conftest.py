"""What holds for every test: marks by need (needs.py) and nothing left behind in the machine (remains.py)."""

pytest_plugins = ("pytester", "tests.needs", "tests.remains", "tests.namespaces")
