/* SPDX-License-Identifier: Apache-2.0 */
/* hub.c: the layout of the hub's cache, as huggingface_hub 1.x keeps it:
 *   CACHE/models--OWNER--NAME/refs/REVISION        the commit that a branch or tag stood for
 *   CACHE/models--OWNER--NAME/snapshots/COMMIT/    links into ../../blobs
 * CACHE is $HF_HUB_CACHE, else $HF_HOME/hub, else huggingface/hub in $XDG_CACHE_HOME or ~/.cache.
 */
#include "ops/hub.h"
#include "base/os.h"

#define SCHEME "hf://"
#define REF_MAX 256
#define TOKEN_MAX 4096

bool lb_hub_is(const char *arg) {
    return strncmp(arg, SCHEME, sizeof SCHEME - 1) == 0;
}

/* Of a name on the hub, a revision or a file: nothing that leads out of its folder. */
bool lb_hub_is_plain(lb_str s) {
    if (s.len == 0 || s.ptr[0] == '.')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!word && c != '-' && c != '_' && c != '.')
            return false;
    }
    return true;
}

/* The next part of *rest, up to a slash. */
static lb_str next_part(lb_str *rest) {
    size_t slash;
    lb_str part = *rest;
    if (lb_str_find(*rest, LB_STR("/"), &slash)) {
        part = lb_str_sub(*rest, 0, slash);
        *rest = lb_str_sub(*rest, slash + 1, rest->len);
    } else {
        *rest = LB_STR_NONE;
    }
    return part;
}

bool lb_hub_is_revision(lb_str s) {
    if (lb_str_ends(s, LB_STR("/")))
        return false;
    do
        if (!lb_hub_is_plain(next_part(&s)))
            return false;
    while (s.len);
    return true;
}

/* OWNER/NAME[@REVISION][/FILE]; *owner is empty where there is none. */
static bool parse(const char *arg, lb_hub_name *out, lb_str *owner, lb_str *name) {
    lb_str rest = lb_str_c(arg + sizeof SCHEME - 1);
    size_t at;
    bool has_owner = lb_str_find(rest, LB_STR("/"), &at);
    *out = (lb_hub_name){.revision = LB_STR("main")};
    *owner = next_part(&rest);
    *name = next_part(&rest);
    if (!has_owner) { /* hf://gpt2 */
        *name = *owner;
        *owner = LB_STR_NONE;
    }
    if (lb_str_find(*name, LB_STR("@"), &at)) {
        out->revision = lb_str_sub(*name, at + 1, name->len);
        *name = lb_str_sub(*name, 0, at);
    }
    out->file = rest;
    while (rest.len)
        if (!lb_hub_is_plain(next_part(&rest)))
            return false;
    return lb_hub_is_plain(*name) && lb_hub_is_plain(out->revision) &&
           (!has_owner || lb_hub_is_plain(*owner));
}

/* A shell has done so already; a file of environment variables has not. */
static lb_str expand_home(lb_arena *arena, const char *path) {
    const char *home = lb_os_env("HOME");
    if (path[0] != '~' || (path[1] && path[1] != '/') || !home)
        return lb_str_c(path);
    return lb_arena_printf(arena, "%s%s", home, path + 1);
}

/* Of all of Hugging Face's tools. Empty: no variable says where. */
static lb_str home_folder(lb_arena *arena) {
    const char *home = lb_os_env("HF_HOME"), *xdg = lb_os_env("XDG_CACHE_HOME");
    const char *user = lb_os_env("HOME");
    if (home)
        return expand_home(arena, home);
    if (xdg)
        return lb_arena_printf(arena, "%s/huggingface", xdg);
    return user ? lb_arena_printf(arena, "%s/.cache/huggingface", user) : LB_STR_NONE;
}

static lb_str cache_folder(lb_arena *arena) {
    const char *cache = lb_os_env("HF_HUB_CACHE");
    lb_str home = home_folder(arena);
    if (cache)
        return expand_home(arena, cache);
    return home.len ? lb_arena_printf(arena, "%.*s/hub", LB_FMT(home)) : LB_STR_NONE;
}

/* Lines that end a file of one line belong to nobody's token. */
static const char *clean_token(lb_arena *arena, lb_str s) {
    while (s.len && (u8)s.ptr[0] <= ' ')
        s = lb_str_sub(s, 1, s.len);
    while (s.len && (u8)s.ptr[s.len - 1] <= ' ')
        s.len--;
    return s.len ? lb_arena_str(arena, s).ptr : NULL;
}

const char *lb_hub_token(lb_arena *arena) {
    const char *env = lb_os_env("HF_TOKEN");
    const char *token = env ? clean_token(arena, lb_str_c(env)) : NULL;
    lb_str home = home_folder(arena), text;
    if (token || !home.len)
        return token;
    lb_str path = lb_arena_printf(arena, "%.*s/token", LB_FMT(home));
    if (!path.ptr || !lb_os_exists(path.ptr) ||
        lb_os_read_file(path.ptr, TOKEN_MAX, arena, &text, NULL) != LB_OK)
        return NULL;
    return clean_token(arena, text);
}

/* The commit of a branch or tag; a revision without such a file is taken for a commit. */
static lb_str commit_of(const char *repo, lb_str revision, lb_arena *arena) {
    lb_str ref = lb_arena_printf(arena, "%s/refs/%.*s", repo, LB_FMT(revision)), text;
    if (!ref.ptr || !lb_os_exists(ref.ptr) ||
        lb_os_read_file(ref.ptr, REF_MAX, arena, &text, NULL) != LB_OK)
        return revision;
    while (text.len && (u8)text.ptr[text.len - 1] <= ' ')
        text.len--;
    return lb_hub_is_plain(text) ? text : revision;
}

lb_status lb_hub_parse(const char *arg, lb_arena *arena, lb_hub_name *n, lb_err *err) {
    lb_str owner, name;
    if (!parse(arg, n, &owner, &name))
        return lb_fail(err, LB_E_USAGE,
                       "%s: not a name on the hub: write hf://OWNER/NAME, hf://OWNER/NAME@REVISION "
                       "or hf://OWNER/NAME/FILE",
                       arg);
    lb_str cache = cache_folder(arena);
    if (!cache.len)
        return lb_fail(err, LB_E_NOT_FOUND,
                       "%s: where is the cache? Neither HF_HUB_CACHE, HF_HOME nor HOME is set",
                       arg);
    n->id = lb_arena_printf(arena, "%.*s%s%.*s", LB_FMT(owner), owner.len ? "/" : "", LB_FMT(name));
    n->cache = cache.ptr;
    n->repo = lb_arena_printf(arena, "%s/models--%.*s%s%.*s", cache.ptr, LB_FMT(owner),
                              owner.len ? "--" : "", LB_FMT(name))
                  .ptr;
    return n->id.ptr && n->repo ? LB_OK : lb_fail(err, LB_E_NOMEM, "out of memory");
}

lb_status lb_hub_find(const char *arg, lb_arena *arena, const char **path, lb_str *id,
                      lb_err *err) {
    lb_hub_name n;
    LB_TRY(lb_hub_parse(arg, arena, &n, err));
    *id = n.id;
    lb_str commit = commit_of(n.repo, n.revision, arena);
    lb_str found = lb_arena_printf(arena, "%s/snapshots/%.*s%s%.*s", n.repo, LB_FMT(commit),
                                   n.file.len ? "/" : "", LB_FMT(n.file));
    if (!found.ptr)
        return lb_fail(err, LB_E_NOMEM, "out of memory");
    if (!lb_os_exists(found.ptr))
        return lb_fail(err, LB_E_NOT_FOUND,
                       "%s: not in the local cache: there is no '%s': fetch it first (lbrx pull "
                       "hf://%.*s)",
                       arg, found.ptr, LB_FMT(n.id));
    *path = found.ptr;
    return LB_OK;
}
