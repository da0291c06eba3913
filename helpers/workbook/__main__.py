"""`python -m helpers.workbook`: every notebook run, its page written, the verdict printed (helpers.workbook.build)."""

from helpers.workbook.build import main

if __name__ == "__main__":
    main()
