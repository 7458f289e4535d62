/* SPDX-License-Identifier: Apache-2.0 */
/* mapped.h: files that are read where they are mapped, and what becomes of a read that the system
 * cannot carry out.
 *
 * A page of a mapped file that is no longer there (the file was cut short, the disk or the network
 * failed) is SIGBUS, in whatever code touches it. Where lb_mapped_install was called, that ends the
 * program with one line, `lbrx: FILE: ...`, and exit code 1; a fault anywhere else has its usual
 * end. Files are known from open to close. Pages can be read ahead of their use and given back. */
#ifndef LB_BASE_MAPPED_H
#define LB_BASE_MAPPED_H

#include "base/base.h"

typedef struct lb_mapped {
    u8 *base; /* NULL: not open */
    u64 size_bytes;
    int fd;   /* -1: not open */
    u32 slot; /* of the table that a signal handler reads */
    char *text;
} lb_mapped;

/* Once, by a program that maps weights; needs no deinit. */
void lb_mapped_install(void);
/* The first size_bytes of an open file, which are there. fd belongs to it from here on, also when
 * that fails. name: for messages. LB_E_IO: it cannot be mapped. */
lb_status lb_mapped_open(lb_mapped *m, int fd, const char *name, u64 size_bytes, lb_err *err);
void lb_mapped_close(lb_mapped *m);
/* Two files that are removed if the program ends by such a read; NULL: none (any more). The names
 * stand until the next call. */
void lb_mapped_remove_at_fault(const char *path, const char *other);

/* Hints; [off, off + len) within the file. */
void lb_mapped_ahead(const lb_mapped *m, u64 off, u64 len); /* start reading; does not wait */
void lb_mapped_fill(const lb_mapped *m, u64 off, u64 len);  /* wait until it is there */
/* Give the memory of whole pages back, here and in the system's cache. */
void lb_mapped_drop(const lb_mapped *m, u64 off, u64 len);
/* Give back this process's pages of the range alone: the system's cache keeps them. */
void lb_mapped_let_go(const lb_mapped *m, u64 off, u64 len);
/* It is read in no order: nothing around what is asked for. */
void lb_mapped_scattered(const lb_mapped *m, u64 off, u64 len);
/* All of it may lie in large pages, where the system keeps a file in such: what is not in its cache
 * yet is read into them. For a file that is read whole, over and over. */
void lb_mapped_large_pages(const lb_mapped *m);
/* Exactly [off, off + len) of the file to memory of the caller, without a page of the map. LB_E_IO:
 * it was cut, or cannot be read. */
lb_status lb_mapped_read(const lb_mapped *m, void *to, u64 off, u64 len, lb_err *err);
/* Reads beside the system's cache: pieces of whole LB_DIRECT_BYTES, into memory aligned to as much.
 * open: another descriptor of the same file, -1 where the system or the file's has no such way.
 * read: the bytes that were read, fewer only at the file's end; -1: it failed. */
#define LB_DIRECT_BYTES 4096u
int lb_mapped_open_direct(const lb_mapped *m);
i64 lb_mapped_read_direct(int fd, void *to, u64 off, u64 len);
/* Bytes of the range that are in memory; UINT64_MAX where the system does not tell. */
u64 lb_mapped_present(const lb_mapped *m, u64 off, u64 len);

#endif
