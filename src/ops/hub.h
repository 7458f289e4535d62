/* SPDX-License-Identifier: Apache-2.0 */
/* hub.h: hf://OWNER/NAME[@REVISION][/FILE] in the local cache of Hugging Face's tools. Downloads
 * nothing: ops/pull.h does. */
#ifndef LB_OPS_HUB_H
#define LB_OPS_HUB_H

#include "base/base.h"
#include "base/mem.h"

bool lb_hub_is(const char *arg); /* begins with hf:// */

typedef struct lb_hub_name {
    lb_str id;         /* OWNER/NAME; the first models of the hub have no owner */
    lb_str revision;   /* "main" unless given */
    lb_str file;       /* inside the model; may be empty */
    const char *cache; /* the cache's folder */
    const char *repo;  /* CACHE/models--OWNER--NAME */
} lb_hub_name;
/* The token of private models, as huggingface_hub finds it: HF_TOKEN, else the file that `hf auth
 * login` writes ($HF_HOME/token); in the arena, without blanks around it; NULL: there is none. */
const char *lb_hub_token(lb_arena *arena);
/* All in the arena. LB_E_USAGE: not such a name; LB_E_NOT_FOUND: no variable says where the cache
 * is. */
lb_status lb_hub_parse(const char *arg, lb_arena *arena, lb_hub_name *out, lb_err *err);
/* Part of a name, a revision, a commit: letters, digits and -_. , not beginning with a dot. */
bool lb_hub_is_plain(lb_str s);
/* Plain parts between slashes: "refs/pr/1". */
bool lb_hub_is_revision(lb_str s);

/* Where the snapshot, or the file in it, lies; *id: OWNER/NAME, for provenance. All in the arena.
 * LB_E_USAGE: not such a name; LB_E_NOT_FOUND: not in the cache; says where it looked. */
lb_status lb_hub_find(const char *arg, lb_arena *arena, const char **path, lb_str *id, lb_err *err);

#endif
