"""PySpark's daemon, which has imported what all its workers need, and nothing for models."""

import forking

if __name__ == "__main__":
    forking.run("pandas", "pyarrow")
