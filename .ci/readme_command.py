"""Print the command that the README gives for a purpose: ``demo`` or ``tests``."""

import re
import sys
from pathlib import Path

purpose = sys.argv[1]
readme = Path(__file__).parents[1] / "README.md"
found = re.search(rf"<!-- {purpose} -->\s*```(?:bash|sh)\n(.*?)```", readme.read_text(), re.DOTALL)
if found is None:
    sys.exit(f"README.md has no command marked <!-- {purpose} -->")
sys.stdout.write(found.group(1).strip() + "\n")
