"""Installation of semflow: plain Python, nothing is compiled."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "semflow" / "__init__.py").read_text(encoding="utf-8"))[1]

setup(
    name="semflow",
    version=VERSION,
    description="Semantic fields of dynamic scenes from one moving camera's video",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["semflow", "semflow.*"]),
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.6",
        "torchvision",
        "numpy",
        "imageio[ffmpeg]",
        "opencv-python-headless>=4.7",
        "configargparse",
        "tensorboard",
        "tqdm",
        "kornia",
        "safetensors",
    ],
    extras_require={"dev": ["pytest", "scikit-learn", "pycolmap>=4.0"], "lpips": ["lpips"], "plots": ["matplotlib"],
                    "prepare": ["pycolmap>=4.0"]},
    entry_points={"console_scripts": ["semflow = semflow.cli.main:main"]},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Operating System :: MacOS",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
