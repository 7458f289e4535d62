/* SPDX-License-Identifier: Apache-2.0 */
/* zip.h: the directory of a zip archive whose entries are stored as they are: what torch.save
 * makes.
 *
 * Only says where each entry's bytes stand in the file; reads none of them and writes nothing, so
 * that names are names and no paths. Refused by name: entries that are compressed or encrypted,
 * archives of several disks. Format errors: names that are no plain relative paths or stand twice,
 * entries that lie outside the file or in each other, a directory that the two headers of an entry
 * tell differently. Format: PKWARE APPNOTE 6.3.10, 4.3 (also zip64). */
#ifndef LB_FORMAT_ZIP_H
#define LB_FORMAT_ZIP_H

#include "base/mem.h"
#include "io/cur.h"

typedef struct lb_zip_entry {
    lb_str name;
    u64 head_off;              /* of its local header */
    u64 off_bytes, size_bytes; /* of its bytes, in the file */
    bool is_size_behind;       /* its local header does not tell the size */
} lb_zip_entry;

typedef struct lb_zip {
    lb_zip_entry *entries; /* in the order of the file */
    u64 n_entries;
    lb_map by_name;
} lb_zip;

bool lb_zip_probe(const u8 *head, size_t n); /* at least 4 bytes */
/* Entries and names live in perm; by_name until lb_zip_deinit. Errors name c->path. */
lb_status lb_zip_read(lb_cur *c, lb_arena *perm, lb_zip *out, lb_err *err);
const lb_zip_entry *lb_zip_find(const lb_zip *z, lb_str name); /* NULL if absent */
void lb_zip_deinit(lb_zip *z);

#endif
