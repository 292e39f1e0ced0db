"""Installation of semflow: plain Python, nothing is compiled."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

setup(
    name="semflow",
    version="0.1.0",
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
        "opencv-python-headless",
        "configargparse",
        "tensorboard",
        "tqdm",
        "kornia",
        "safetensors",
    ],
    extras_require={"dev": ["pytest", "scikit-learn"], "lpips": ["lpips"]},
    entry_points={"console_scripts": ["semflow = semflow.cli.main:main"]},
)
