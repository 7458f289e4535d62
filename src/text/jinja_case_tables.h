/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_case_tables.h: special case mappings, sorted by character. Internal to text/. */
#ifndef LB_TEXT_JINJA_CASE_TABLES_H
#define LB_TEXT_JINJA_CASE_TABLES_H

#include "base/base.h"

typedef struct lb_jcase_row {
    u32 cp;
    const char *upper, *lower, *title, *fold; /* UTF-8 */
} lb_jcase_row;
extern const lb_jcase_row lb_jcase_rows[];
extern const u32 lb_jcase_n_rows;

#endif
