/* SPDX-License-Identifier: Apache-2.0 */
/* size.h: sizes, counts and times as people write and read them. */
#ifndef LB_IO_SIZE_H
#define LB_IO_SIZE_H

#include "base/base.h"

#define LB_SIZE_TEXT 32 /* bytes of every `out` here; the functions return it */

/* "1.23 GB": decimal, as disks are counted, three digits. */
const char *lb_size_text(u64 size_bytes, char *out);
/* "129MB": never below the size, and lb_size_parse reads it: for "needs at least". */
const char *lb_size_text_up(u64 size_bytes, char *out);
/* "134.5 M", "1.24 B". */
const char *lb_count_text(u64 n, char *out);
/* A number with at most six digits behind a point and a unit in any case: none or B, kB MB GB TB
 * (powers of 1000), KiB MiB GiB TiB (of 1024); k M G T are decimal. False where it is none of that
 * or 2^64 bytes or more; a part of a byte is dropped. */
bool lb_size_parse(lb_str text, u64 *out);

/* "0.42 s", "12.3 s", "4:05", "1:02:03", "5 d 04 h". */
const char *lb_duration_text(u64 us, char *out);
/* For what is left: "0:07", "4:05", "1:02:03"; from 100 hours on "5 d 04 h". */
const char *lb_clock_text(u64 seconds, char *out);

#endif
