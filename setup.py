from setuptools import setup

setup(
    packages=["benchbench", "benchbench_plugins", "benchbench_csrc"],
    package_dir={"benchbench_plugins": "plugins", "benchbench_csrc": "csrc"},
)
