"""Now `python -m models.inspect.translator_study`."""

from utils.process.moved import run_in_new_place

if __name__ == "__main__":
    run_in_new_place("models.inspect.translator_study")
