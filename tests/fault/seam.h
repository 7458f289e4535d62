/* SPDX-License-Identifier: Apache-2.0 */
/* seam.h: calls of the operating system that fail, stop short or end the process, at a chosen one.
 *
 * The programs test_fault_* are linked with --wrap (tests/tests.mk), so that the library's calls of
 * pwrite, rename and the like come here first. Production has no such switch. */
#ifndef LB_TESTS_SEAM_H
#define LB_TESTS_SEAM_H

#include "base/base.h"

enum {
    SEAM_WRITE = 1,     /* pwrite, pwritev */
    SEAM_TRUNCATE = 2,  /* ftruncate */
    SEAM_SYNC = 4,      /* fsync, of files and folders */
    SEAM_RENAME = 8,    /* rename, exchange */
    SEAM_REMOVE = 16,   /* unlink, unlinkat, rmdir */
    SEAM_MAKE = 32,     /* mkdir, open for writing */
    SEAM_CLOSE = 64,    /* close */
    SEAM_READ = 128,    /* pread, preadv */
    SEAM_OPEN = 256,    /* open for reading */
    SEAM_CHANGE = 0x3f, /* all that changes something on the disk */
};

typedef struct seam {
    u32 kinds;        /* calls that count */
    u64 at;           /* the one where it happens, from 1; 0: none */
    bool kill;        /* there the process is killed; else the call fails: */
    int error;        /* errno */
    bool torn;        /* a write that is hit has put half of its bytes */
    bool forever;     /* all calls of these kinds after it fail too */
    bool short_io;    /* reads and writes move a few bytes a call; every third is interrupted */
    bool fake_sync;   /* fsync does nothing and says it did */
    bool no_exchange; /* as on a file system that cannot */
    const char *only; /* calls with a path: only where it holds this text; NULL: all */
} seam;

bool seam_available(void); /* else the program was linked without */
void seam_set(const seam *s);
u64 seam_count(void); /* calls that counted since seam_set */

#endif
