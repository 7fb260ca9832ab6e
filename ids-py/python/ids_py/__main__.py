"""`python -m ids_py`."""

import sys

from .cli import main

sys.exit(main())
