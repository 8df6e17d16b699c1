"""`python -m conan_lib` is `conan-lib`, for a machine where the package lies beside the work and is not installed."""

from conan_lib.run.cli import main

if __name__ == "__main__":
    main()
