"""Now `python -m models.export`."""

from utils.process.moved import run_in_new_place

if __name__ == "__main__":
    run_in_new_place("models.export")
