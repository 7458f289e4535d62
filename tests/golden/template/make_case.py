#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_case.py > src/text/jinja_case_tables.c: special case mappings of Python 3.11 (Unicode 14)."""
print("""/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_case_tables.c: characters whose upper, lower or title case is not one character, or that
 * have a title case of their own. Made by tests/golden/template/make_case.py from Python 3.11
 * (Unicode 14). */
#include "text/jinja_case_tables.h"

const lb_jcase_row lb_jcase_rows[] = {""")
for c in range(0x110000):
    if 0xD800 <= c < 0xE000:
        continue
    forms = [chr(c).upper(), chr(c).lower(), chr(c).title(), chr(c).casefold()]
    upper, lower, title, fold = forms
    if any(len(f) > 1 for f in forms) or title != upper or fold != lower:
        text = ", ".join('"%s"' % "".join("\\x%02x" % b for b in f.encode()) for f in forms)
        print("    {0x%04x, %s}," % (c, text))
print("};\nconst u32 lb_jcase_n_rows = LB_LEN(lb_jcase_rows);")
