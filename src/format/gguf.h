/* SPDX-License-Identifier: Apache-2.0 */
/* gguf.h: reading GGUF files: the directory of one file, a model of one or many files as lb_source.
 *
 * Accepts what ggml/src/gguf.cpp (llama-cpp-python 0.3.36) accepts, little-endian versions 2 and 3,
 * and refuses more where a name or a range would mean two things: docs/facts.md lists it. Shapes
 * are reversed here and nowhere else. Tensor bytes are not read. */
#ifndef LB_FORMAT_GGUF_H
#define LB_FORMAT_GGUF_H

#include "base/base.h"
#include "base/mem.h"
#include "format/gguf_meta.h"
#include "io/cur.h"
#include "tensor/source.h"

#define LB_GGUF_MAGIC 0x46554747u         /* "GGUF" */
#define LB_GGUF_ALIGN_DEFAULT 32          /* gguf.h GGUF_DEFAULT_ALIGNMENT */
#define LB_GGUF_NAME_MAX 63               /* ggml.h GGML_MAX_NAME 64 counts a NUL */
#define LB_GGUF_RANK_MAX 4                /* ggml.h GGML_MAX_DIMS */
#define LB_GGUF_HEADER_MAX (256 * LB_MIB) /* key-value pairs and tensor list of a model */
#define LB_GGUF_KEYS_MAX 65536            /* pairs in one file; models have fewer than 200 */

#define LB_GGUF_KEY_ALIGN "general.alignment"           /* u32 */
#define LB_GGUF_KEY_SPLIT_NO "split.no"                 /* u16, from 0 */
#define LB_GGUF_KEY_SPLIT_COUNT "split.count"           /* u16, 0 or 1: not split */
#define LB_GGUF_KEY_SPLIT_TENSORS "split.tensors.count" /* i32, of all files */

/* Whether a file that begins with these bytes is GGUF (any version, any byte order). */
bool lb_gguf_probe(const u8 *head, size_t n);

/* What one file says. The caller fills the first three. */
typedef struct lb_gguf_dir {
    lb_arena *perm;       /* names and metadata go here */
    lb_arena *scratch;    /* the tensor list goes here */
    u64 header_bytes_max; /* 0: LB_GGUF_HEADER_MAX */
    u32 version, align_bytes;
    u64 header_bytes;   /* pairs and tensor list: where padding begins */
    u64 data_off_bytes; /* where the data section begins */
    lb_gguf_meta meta;  /* owns nothing on the heap */
    lb_tensor *tensors; /* in file order; file is 0; off_bytes counts from the start of the file */
    u64 n_tensors;
} lb_gguf_dir;

/* Parses the directory from the cursor's first byte. Every range is checked against the file's
 * size. Memory is bounded by a small multiple of the header's bytes, allocated after they are known
 * to exist. Errors: LB_E_FORMAT (err->off = place in the file), LB_E_UNSUPPORTED (version, byte
 * order, tensor type, by name), LB_E_LIMIT, LB_E_NOMEM, LB_E_IO. */
lb_status lb_gguf_parse(lb_cur *c, lb_gguf_dir *dir, lb_err *err);

/* Opens a model: one file, or all files of a split given its first. s->gguf has the first file's
 * pairs without the three split.* keys. One weight a tensor; an NVFP4 `x.weight` with a `x.scale`
 * is one weight of kind LB_ENC_GGUF_SCALED whose scale has one element, or one a matrix of a stack.
 */
lb_status lb_gguf_open(lb_source **out, const char *path, lb_err *err);

/* What else is known of an opened GGUF model; lives as long as s. NULL for other formats. */
typedef struct lb_gguf_info {
    lb_gguf_meta meta;         /* s->gguf points here; must stay first */
    const lb_gguf_meta *first; /* the first file's pairs as stored, split.* keys included */
    u32 version, align_bytes;  /* of the first file */
    u32 n_files;
} lb_gguf_info;
const lb_gguf_info *lb_gguf_info_get(const lb_source *s);

#endif
