/* SPDX-License-Identifier: Apache-2.0 */
/* config_internal.h: what the readers of a merge file share: where they are, and its parts. */
#ifndef LB_MERGE_CONFIG_INTERNAL_H
#define LB_MERGE_CONFIG_INTERNAL_H

#include "merge/config.h"

#define LB_MERGE_PATH_MAX 256

typedef struct lb_merge_reader {
    lb_str what;
    lb_arena *perm;
    lb_err *err;
    lb_merge_config *config;
    char path[LB_MERGE_PATH_MAX]; /* key that is being read: "slices[1].sources"; for messages */
    u32 path_len;
    lb_map refs; /* models by all that names them -> index */
    u32 refs_cap, notes_cap;
    bool *merged; /* [n_refs] is an input of the merge, not only of the tokenizer */
} lb_merge_reader;

/* Appends ".key" (or "[i]") to the path; returns what lb_merge_leave needs. Names that are too long
 * are cut: they are shown only. */
u32 lb_merge_enter(lb_merge_reader *r, lb_str key);
u32 lb_merge_enter_at(lb_merge_reader *r, u64 i);
void lb_merge_leave(lb_merge_reader *r, u32 before);
/* "WHAT: line N: PATH: text". */
lb_status lb_merge_bad(lb_merge_reader *r, const lb_json *v, const char *fmt, ...) LB_PRINTF(3, 4);
lb_status lb_merge_no_memory(lb_merge_reader *r);
lb_status lb_merge_note(lb_merge_reader *r, const lb_json *v, const char *text);

/* The value of a key; NULL where there is none or it is null. */
const lb_json *lb_merge_get(const lb_json *object, const char *key);
/* v must be a mapping with keys of the list (NULL at its end). */
lb_status lb_merge_keys(lb_merge_reader *r, const lb_json *v, const char *const *keys);
lb_status lb_merge_text(lb_merge_reader *r, const lb_json *v, lb_str *out);

/* v: a text or mapping; merged: it is an input. *out: index into config->models. */
lb_status lb_merge_read_ref(lb_merge_reader *r, const lb_json *v, bool merged, u32 *out);
/* `parameters` of a mapping, if it has any. */
lb_status lb_merge_read_settings(lb_merge_reader *r, const lb_json *object, lb_merge_settings *out);
/* tokenizer_source, tokenizer */
lb_status lb_merge_read_tokenizer(lb_merge_reader *r, const lb_json *root);
/* dtype, out_dtype */
lb_status lb_merge_read_dtype(lb_merge_reader *r, const lb_json *root, const char *key, bool *has,
                              lb_dtype *out);
/* One document. */
lb_status lb_merge_read_config(lb_merge_reader *r, const lb_json *root, u32 flags);

#endif
