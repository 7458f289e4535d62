/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_write.h: where everything stands in GGUF output: files, headers, offsets.
 *
 * Plans only; the engine writes tensor bytes at the planned places. Bytes between tensors and after
 * the last one are zero: the file has its full size from the start, so whoever leaves them alone is
 * right. Headers are those of gguf-py's GGUFWriter and of ggml's gguf_write_to_file (version 3); a
 * cut into files is that of llama-gguf-split (llama-cpp-python 0.3.36). Same input, same bytes. */
#ifndef LB_FORMAT_GGUF_WRITE_H
#define LB_FORMAT_GGUF_WRITE_H

#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "io/out.h"
#include "tensor/dtype.h"
#include "tensor/source.h"

/* Largest general.alignment that is written: a header is padded to it. */
#define LB_GGUF_ALIGN_MAX (1u << 20)

/* One output tensor. name, dtype and shape are the caller's; the rest is filled by the layout. */
typedef struct lb_gguf_item {
    lb_str name;
    lb_dtype dtype;
    lb_shape shape;
    u32 file;       /* filled: index into lb_gguf_layout.files; given with keep_files, ascending */
    u64 off_bytes;  /* filled: absolute, in that file */
    u64 size_bytes; /* filled */
} lb_gguf_item;

typedef struct lb_gguf_layout_opts {
    const lb_gguf_meta *meta; /* the model's pairs */
    lb_str stem;              /* file names: "<stem>.gguf" or "<stem>-00001-of-00003.gguf" */
    u64 max_file_bytes;       /* of padded tensor data a file; 0: one file */
    u64 max_file_items;       /* instead: tensors a file; 0: any number */
    bool keep_files;          /* instead: the items say in which file each is */
    bool first_no_tensors;    /* split only: the first file has the metadata and no tensor */
    bool
        trim_dims; /* leave out leading dimensions of 1, as ggml writes shapes (gguf-py does not) */
    bool later; /* headers are not built but written by lb_gguf_layout_write: items, meta and fields
                   must stay as they are */
    const char *const *fields; /* [n_fields] keys of strings of the first file, to be overwritten */
    u32 n_fields;
} lb_gguf_layout_opts;

typedef struct lb_gguf_file {
    lb_str name;    /* plain name */
    lb_str header;  /* the file's first bytes, up to the first tensor's; later: ptr is NULL */
    u64 size_bytes; /* of the whole file, padding after the last tensor included */
    u64 n_items;
} lb_gguf_file;

typedef struct lb_gguf_layout {
    lb_gguf_file *files;
    u32 n_files;
    u32 align_bytes;
    u64 total_bytes; /* of all tensors, without padding */
    u64 *field_off;  /* [n_fields]: place in the first file of the string's first byte */
    const struct lb_gguf_writer *writer;
} lb_gguf_layout;

/* Places items (their order is the order of data) and builds the headers in perm. Alignment is the
 * meta's general.alignment, else 32. split.* keys of the meta are replaced. What fits one file
 * becomes one plain file. Errors: LB_E_UNSUPPORTED (type or rank that GGUF cannot hold),
 * LB_E_FORMAT (names: empty, above 63 bytes, not UTF-8, twice; rows that are no whole blocks;
 * alignment; a key twice), LB_E_LIMIT (files, sizes, alignment), LB_E_NOT_FOUND (a field that is no
 * string of the meta), LB_E_NOMEM. */
lb_status lb_gguf_layout_plan(lb_gguf_item *items, u64 n_items, const lb_gguf_layout_opts *opts,
                              lb_arena *perm, lb_gguf_layout *out, lb_err *err);
/* Appends a file's header; out's own status tells of failures. */
void lb_gguf_layout_write(const lb_gguf_layout *l, u32 file, lb_out *out);

#endif
