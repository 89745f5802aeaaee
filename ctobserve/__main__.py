"""python -m ctobserve"""

import sys

from ctobserve.cli import main

sys.exit(main())
