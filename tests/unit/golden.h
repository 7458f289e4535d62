/* SPDX-License-Identifier: Apache-2.0 */
/* golden.h: files of stored bytes and the f32 values that the type's defining implementation gives.
 *
 * A file is a sequence of records, little-endian:
 *   char magic[4] = "LBKG", u32 version = 1, char name[32] (NUL-padded), u64 n_elems, u64 n_bytes,
 *   u8 raw[n_bytes], f32 values[n_elems]
 * tests/golden/kern/golden.py writes them. */
#ifndef LB_TESTS_GOLDEN_H
#define LB_TESTS_GOLDEN_H

#include "base/base.h"
#include "kernel/kernel.h"

typedef struct golden_record {
    char name[33];
    size_t n_elems, n_bytes;
    const u8 *raw;       /* any alignment */
    const float *values; /* [n_elems] */
    float *owned;        /* aligned copy of the values */
} golden_record;

/* The whole file tests/golden/kern/<name>; false (and the test has failed) if it cannot be read. */
bool golden_open(const char *name, u8 **data, size_t *size);
/* The record at offset *at (0 = first), false at the end. Malformed: the test fails. */
bool golden_next(const u8 *data, size_t size, size_t *at, golden_record *r);
void golden_record_free(golden_record *r);
void golden_close(u8 *data);

/* Same bits, or both NaN (which NaN the peers make depends on their machine). Reports the first
 * difference through lb_test_fail. */
bool golden_same(const golden_record *r, const char *who, const float *got);

/* All records of tests/golden/kern/<type>.bin through the kernel of every instruction set that this
 * machine has; each record's n_bytes must be what dtype.def says. */
void golden_check_decode(lb_dtype t);

#endif
