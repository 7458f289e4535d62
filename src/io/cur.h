/* SPDX-License-Identifier: Apache-2.0 */
/* cur.h: a bounded cursor over a file: the only way binary headers are read.
 *
 * Holds a window of the file (default 256 KiB) and never the whole of it; every read is tested
 * against what is left by subtraction. Strings are copied to the caller's arena only after their
 * length was tested against the rest of the file. */
#ifndef LB_IO_CUR_H
#define LB_IO_CUR_H

#include "base/base.h"
#include "base/mem.h"

typedef struct lb_cur {
    const char *path;
    int fd;         /* -1: the cursor reads from memory */
    u64 size_bytes; /* of the file */
    u64 pos;        /* next byte to read, from the start of the file */
    u8 *window;
    u64 window_off, window_len, window_cap;
} lb_cur;

lb_status lb_cur_open(lb_cur *c, const char *path, lb_err *err);
void lb_cur_mem(lb_cur *c, const char *what, const void *ptr,
                u64 len); /* over the caller's bytes: tests, fuzzers */
void lb_cur_close(lb_cur *c);

static inline u64 lb_cur_left(const lb_cur *c) {
    return c->size_bytes - c->pos;
}
/* Each fails with LB_E_FORMAT, the offset and "file ends inside <what>" when too little is left. */
lb_status lb_cur_bytes(lb_cur *c, void *out, u64 n, const char *what, lb_err *err);
lb_status lb_cur_u8(lb_cur *c, u8 *out, const char *what, lb_err *err);
lb_status lb_cur_u16(lb_cur *c, u16 *out, const char *what, lb_err *err);
lb_status lb_cur_u32(lb_cur *c, u32 *out, const char *what, lb_err *err);
lb_status lb_cur_u64(lb_cur *c, u64 *out, const char *what, lb_err *err);
lb_status lb_cur_skip(lb_cur *c, u64 n, const char *what, lb_err *err);
/* n bytes copied to the arena (NUL-terminated beyond their end). */
lb_status lb_cur_str(lb_cur *c, u64 n, lb_arena *perm, lb_str *out, const char *what, lb_err *err);

#endif
