/* SPDX-License-Identifier: Apache-2.0 */
/* meta_general.c: general.*: who made the model, from what, under which licence.
 *
 * Three sources, the first that says something wins: the model card (YAML at the head of
 * README.md),
 * `_name_or_path` of the config, the name of the folder. The rules, the keys and their order are
 * those of gguf-py/gguf/metadata.py (load, apply_metadata_heuristic, set_gguf_meta_model) of
 * llama-cpp-python 0.3.36. Where that fails on a value (a version that YAML reads as a number), the
 * text as written is taken here. */
#include "arch/arch_internal.h"
#include "io/yaml.h"
#include <stdio.h>

/* Texts in the order in which they are written. ptr NULL: not known; "": known to be nothing. */
enum {
    F_NAME,
    F_AUTHOR,
    F_VERSION,
    F_ORGANIZATION,
    F_FINETUNE,
    F_BASENAME,
    F_DESCRIPTION,
    F_SIZE_LABEL,
    F_LICENSE,
    F_LICENSE_NAME,
    F_LICENSE_LINK,
    F_SOURCE_URL,
    F_SOURCE_DOI,
    F_SOURCE_UUID,
    F_SOURCE_REPO_URL,
    F_COUNT
};

static const struct {
    const char *key;
    const char *card; /* keys of a model card, '|' between, in the order of trust */
} fields[F_COUNT] = {
    [F_NAME] = {"general.name", "name|model_name"},
    [F_AUTHOR] = {"general.author", "author|model_author|model_creator"},
    [F_VERSION] = {"general.version", "version|model_version"},
    [F_ORGANIZATION] = {"general.organization", "organization|model_organization"},
    [F_FINETUNE] = {"general.finetune", "finetune|model_finetune"},
    [F_BASENAME] = {"general.basename", "basename|model_basename|model_type"},
    [F_DESCRIPTION] = {"general.description", "description|model_description"},
    [F_SIZE_LABEL] = {"general.size_label", "size_label|model_size_label"},
    [F_LICENSE] = {"general.license", "license"},
    [F_LICENSE_NAME] = {"general.license.name", "license_name"},
    [F_LICENSE_LINK] = {"general.license.link", "license_link"},
    [F_SOURCE_URL] = {"general.source.url", "url|model_url"},
    [F_SOURCE_DOI] = {"general.source.doi", "doi|model_doi"},
    [F_SOURCE_UUID] = {"general.source.uuid", "uuid|model_uuid"},
    [F_SOURCE_REPO_URL] = {"general.source.repo_url", "repo_url|model_repo_url"},
};

/* What is said of a parent model or of a data set, in the order of writing. */
enum {
    O_NAME,
    O_AUTHOR,
    O_VERSION,
    O_ORGANIZATION,
    O_DESCRIPTION,
    O_URL,
    O_DOI,
    O_UUID,
    O_REPO_URL,
    O_COUNT
};
static const char *const origin_keys[O_COUNT] = {
    "name", "author", "version", "organization", "description", "url", "doi", "uuid", "repo_url"};

typedef struct general {
    lb_str text[F_COUNT];
    lb_arena *scratch;
    i64 n_params;
    lb_gguf_meta *out;
    lb_err *err;
} general;

static lb_status no_memory(general *g) {
    return lb_fail(g->err, LB_E_NOMEM, "model card: out of memory");
}

static bool is_set(const lb_json *v) {
    return v && v->type != LB_JNULL;
}

/* A scalar's text; "" for what Python counts as false and for collections. */
static lb_str scalar_text(const lb_json *v) {
    double f;
    if (v->type == LB_JSTRING)
        return v->text.ptr ? v->text : LB_STR("");
    if (v->type == LB_JBOOL)
        return v->truth ? v->text : LB_STR("");
    if (v->type == LB_JNUMBER)
        return lb_json_as_f64(v, &f) && f == 0 ? LB_STR("") : v->text;
    return LB_STR("");
}

/* ---- the model card ---- */

/* End of a line as Python's splitlines sees it: \n, \r\n, \r, \v, \f, FS, GS, RS, NEL, LS, PS. */
static size_t line_break(lb_str s, size_t at) {
    const u8 *p = (const u8 *)s.ptr + at;
    size_t left = s.len - at;
    if (p[0] == '\r' && left > 1 && p[1] == '\n')
        return 2;
    if ((p[0] >= '\n' && p[0] <= '\r') || (p[0] >= 0x1c && p[0] <= 0x1e))
        return 1;
    if (left > 1 && p[0] == 0xc2 && p[1] == 0x85)
        return 2;
    if (left > 2 && p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9))
        return 3;
    return 0;
}

static bool next_line(lb_str s, size_t *at, lb_str *line) {
    size_t start = *at, n = 0;
    if (start >= s.len)
        return false;
    while (*at < s.len && (n = line_break(s, *at)) == 0)
        (*at)++;
    *line = lb_str_sub(s, start, *at);
    *at += *at < s.len ? n : 0;
    return true;
}

/* The YAML between the first two lines "---", with the reference's two repairs: `- no` is the
 * language, a tab is two spaces. Empty when there is none. */
static void front_matter(lb_str readme, lb_buf *out) {
    size_t at = 0;
    lb_str line;
    if (!next_line(readme, &at, &line) || !lb_str_eq_c(line, "---"))
        return;
    while (next_line(readme, &at, &line) && !lb_str_eq_c(line, "---")) {
        bool norway = lb_str_ends(line, LB_STR("- no"));
        lb_str head = norway ? lb_str_sub(line, 0, line.len - 2) : line;
        for (size_t i = 0; i < head.len; i++)
            if (head.ptr[i] == '\t')
                lb_buf_put_c(out, "  ");
            else
                lb_buf_put_u8(out, (u8)head.ptr[i]);
        lb_buf_put_c(out, norway ? "\"no\"\n" : "\n");
    }
}

/* A card that is not YAML says nothing: a conversion does not fail for its README. */
static lb_status read_card(general *g, lb_str readme, lb_err *card_err, const lb_json **out) {
    lb_buf text = {0};
    lb_json *tree = NULL;
    *out = NULL;
    front_matter(readme, &text);
    lb_status st = lb_buf_status(&text, g->err);
    if (st == LB_OK && text.len) {
        lb_str copy = lb_arena_str(g->scratch, lb_buf_str(&text));
        st = copy.ptr
                 ? lb_yaml_parse(copy, "README.md", LB_YAML_LAST_WINS, g->scratch, &tree, card_err)
                 : no_memory(g);
    }
    lb_buf_deinit(&text);
    if (st == LB_E_NOMEM)
        return no_memory(g);
    *out = st == LB_OK && tree && tree->type == LB_JOBJECT ? tree : NULL;
    return LB_OK;
}

static void take_card_texts(general *g, const lb_json *card) {
    for (u32 f = 0; f < F_COUNT; f++) {
        for (const char *names = fields[f].card; *names;) {
            size_t len = strcspn(names, "|");
            const lb_json *v = lb_json_get_str(card, (lb_str){names, len});
            if (is_set(v) && !g->text[f].ptr)
                g->text[f] = scalar_text(v);
            names += len + (names[len] == '|');
        }
    }
}

/* A licence may be a list. */
static lb_status take_license(general *g, const lb_json *card) {
    const lb_json *v = lb_json_get(card, "license");
    lb_buf b = {0};
    if (!v || v->type != LB_JARRAY)
        return LB_OK;
    for (const lb_json *e = v->first; e; e = e->next) {
        if (e != v->first)
            lb_buf_put_u8(&b, ',');
        lb_buf_put_str(&b, is_set(e) ? e->text : LB_STR(""));
    }
    g->text[F_LICENSE] = lb_arena_str(g->scratch, lb_buf_str(&b));
    bool ok = !b.oom && g->text[F_LICENSE].ptr;
    lb_buf_deinit(&b);
    return ok ? LB_OK : no_memory(g);
}

/* ---- names ---- */

static lb_status take_title(general *g, lb_str *field, lb_str id) {
    if (field->ptr || !id.ptr)
        return LB_OK;
    *field = lb_model_id_title(id, g->scratch);
    return field->ptr ? LB_OK : no_memory(g);
}

static void take(lb_str *field, lb_str v) {
    if (!field->ptr)
        *field = v;
}

static lb_status take_id(general *g, lb_str id) {
    lb_model_id m;
    LB_TRY(lb_model_id_parse(id, g->n_params, g->scratch, &m, g->err));
    LB_TRY(take_title(g, &g->text[F_NAME], m.name));
    LB_TRY(take_title(g, &g->text[F_ORGANIZATION], m.organization));
    take(&g->text[F_BASENAME], m.basename);
    take(&g->text[F_FINETUNE], m.finetune);
    take(&g->text[F_VERSION], m.version);
    take(&g->text[F_SIZE_LABEL], m.size_label);
    return LB_OK;
}

/* ---- parents and data sets ---- */

static bool is_url(lb_str s, bool *http) {
    *http = lb_str_starts(s, LB_STR("http://")) || lb_str_starts(s, LB_STR("https://"));
    return *http || lb_str_starts(s, LB_STR("ssh://"));
}

/* "https://huggingface.co/org/name" -> "org/name" */
static bool hub_id(lb_str url, lb_str *id) {
    static const lb_str host = LB_N("huggingface");
    size_t at, slash, more;
    if (!lb_str_find(url, LB_STR("huggingface.co"), &at) || !lb_str_find(url, LB_STR("//"), &at))
        return false;
    lb_str rest = lb_str_sub(url, at + 2, url.len);
    /* The reference's dot is any character. */
    if (!lb_str_starts(rest, host) || rest.len < 15 ||
        !lb_str_starts(lb_str_sub(rest, 12, rest.len), LB_STR("co/")))
        return false;
    *id = lb_str_sub(rest, 15, rest.len);
    if (!lb_str_find(*id, LB_STR("/"), &slash) || slash == 0 || slash + 1 == id->len)
        return false;
    return !lb_str_find(lb_str_sub(*id, slash + 1, id->len), LB_STR("/"), &more);
}

static lb_status origin_from_id(general *g, lb_str id, bool with_url, lb_str *o) {
    lb_model_id m;
    LB_TRY(lb_model_id_parse(id, g->n_params, g->scratch, &m, g->err));
    LB_TRY(take_title(g, &o[O_NAME], m.name));
    LB_TRY(take_title(g, &o[O_ORGANIZATION], m.organization));
    take(&o[O_VERSION], m.version);
    if (with_url && m.organization.ptr && m.name.ptr) {
        o[O_REPO_URL] = lb_arena_printf(g->scratch, "https://huggingface.co/%.*s/%.*s",
                                        LB_FMT(m.organization), LB_FMT(m.name));
        if (!o[O_REPO_URL].ptr)
            return no_memory(g);
    }
    return LB_OK;
}

static lb_status read_origin(general *g, const lb_json *v, lb_str *o) {
    lb_str s, id;
    bool http;
    if (v->type == LB_JOBJECT) {
        for (u32 i = 0; i < O_COUNT; i++) {
            const lb_json *e = lb_json_get(v, origin_keys[i]);
            if (is_set(e))
                o[i] = scalar_text(e);
        }
        return LB_OK;
    }
    if (!lb_json_as_str(v, &s))
        return LB_OK; /* counted, but nothing is known of it */
    if (!is_url(s, &http))
        return origin_from_id(g, s, true, o);
    o[O_REPO_URL] = s;
    return http && hub_id(s, &id) ? origin_from_id(g, id, false, o) : LB_OK;
}

static lb_status put_text(general *g, const char *key, lb_str v) {
    /* GGUF strings are UTF-8; a folder's name need not be. */
    if (v.len == 0 || !lb_str_is_utf8(v))
        return LB_OK;
    return lb_meta_set_str(g->out, key, v, g->err);
}

static lb_status put_origin(general *g, const char *what, u64 index, const lb_json *v) {
    lb_str o[O_COUNT] = {{NULL, 0}};
    char key[96];
    LB_TRY(read_origin(g, v, o));
    for (u32 i = 0; i < O_COUNT; i++) {
        snprintf(key, sizeof key, "general.%s.%llu.%s", what, (unsigned long long)index,
                 origin_keys[i]);
        LB_TRY(put_text(g, key, o[i]));
    }
    return LB_OK;
}

/* The card may use any of three keys; the first that exists counts, null or not. */
static lb_status put_origins(general *g, const lb_json *card, const char *what,
                             const char *const names[3]) {
    const lb_json *v = NULL;
    char key[64];
    for (u32 i = 0; i < 3 && !v; i++)
        v = lb_json_get(card, names[i]);
    if (!v)
        return LB_OK;
    bool list = v->type == LB_JARRAY, one = v->type == LB_JSTRING;
    snprintf(key, sizeof key, "general.%s.count", what);
    LB_TRY(lb_meta_set_u32(g->out, key, list ? (u32)v->n : one ? 1 : 0, g->err));
    if (one)
        return put_origin(g, what, 0, v);
    u64 i = 0;
    for (const lb_json *e = list ? v->first : NULL; e; e = e->next)
        LB_TRY(put_origin(g, what, i++, e));
    return LB_OK;
}

/* ---- lists ---- */

static u64 list_length(const lb_json *v) {
    return !v ? 0 : v->type == LB_JARRAY ? v->n : v->type == LB_JSTRING;
}

static void list_add(const lb_json *v, lb_str *list, u64 *n) {
    if (v && v->type == LB_JSTRING)
        list[(*n)++] = v->text;
    for (const lb_json *e = v && v->type == LB_JARRAY ? v->first : NULL; e; e = e->next)
        if (is_set(e) && e->type != LB_JARRAY && e->type != LB_JOBJECT)
            list[(*n)++] = e->text;
}

static lb_status put_list(general *g, const lb_json *card, const char *key, const char *first,
                          const char *second) {
    const lb_json *a = lb_json_get(card, first), *b = lb_json_get(card, second);
    u64 n = 0, max = list_length(a) + list_length(b);
    lb_str *list = lb_arena_new(g->scratch, lb_str, max);
    if (!list)
        return no_memory(g);
    list_add(a, list, &n);
    list_add(b, list, &n);
    return n ? lb_meta_set_array(g->out, key, LB_GGUF_STR, n, list, g->err) : LB_OK;
}

/* ---- sampling parameters of generation_config.json ---- */

static lb_status put_sampling(general *g, const lb_json *gen) {
    static const struct {
        const char *key, *name, *other;
        lb_gguf_type type;
    } rows[] = {
        {"general.sampling.sequence", "sequence", NULL, LB_GGUF_STR},
        {"general.sampling.top_k", "top_k", NULL, LB_GGUF_I32},
        {"general.sampling.top_p", "top_p", NULL, LB_GGUF_F32},
        {"general.sampling.min_p", "min_p", NULL, LB_GGUF_F32},
        {"general.sampling.xtc_probability", "xtc_probability", NULL, LB_GGUF_F32},
        {"general.sampling.xtc_threshold", "xtc_threshold", NULL, LB_GGUF_F32},
        {"general.sampling.temp", "temperature", NULL, LB_GGUF_F32},
        {"general.sampling.penalty_last_n", "penalty_last_n", NULL, LB_GGUF_I32},
        {"general.sampling.penalty_repeat", "penalty_repeat", "repetition_penalty", LB_GGUF_F32},
        {"general.sampling.mirostat", "mirostat", NULL, LB_GGUF_I32},
        {"general.sampling.mirostat_tau", "mirostat_tau", NULL, LB_GGUF_F32},
        {"general.sampling.mirostat_eta", "mirostat_eta", NULL, LB_GGUF_F32},
    };
    for (size_t i = 0; i < LB_LEN(rows); i++) {
        const lb_json *v = lb_json_get(gen, rows[i].name);
        if (!v && rows[i].other)
            v = lb_json_get(gen, rows[i].other);
        i64 n;
        double f;
        lb_str s;
        if (!is_set(v))
            continue;
        if (rows[i].type == LB_GGUF_STR && lb_json_as_str(v, &s))
            LB_TRY(put_text(g, rows[i].key, s));
        else if (rows[i].type == LB_GGUF_I32 && lb_json_as_i64(v, &n) && n >= INT32_MIN &&
                 n <= INT32_MAX)
            LB_TRY(lb_meta_set_i32(g->out, rows[i].key, (i32)n, g->err));
        else if (rows[i].type == LB_GGUF_F32 && lb_json_as_f64(v, &f))
            LB_TRY(lb_meta_set_f32(g->out, rows[i].key, (float)f, g->err));
        else
            return lb_fail(g->err, LB_E_FORMAT, "generation_config.json: '%s' has no usable value",
                           rows[i].name);
    }
    return LB_OK;
}

/* ---- all of it ---- */

static lb_status collect(general *g, const lb_arch_meta_in *in, const lb_json *card) {
    lb_str path;
    u64 n_slashes = 0;
    take_card_texts(g, card);
    LB_TRY(take_license(g, card));
    if (lb_json_as_str(lb_json_get(in->config, "_name_or_path"), &path)) {
        for (size_t i = 0; i < path.len; i++)
            n_slashes += path.ptr[i] == '/';
        if (n_slashes <= 1) /* more: a path on somebody's computer */
            LB_TRY(take_id(g, path));
    }
    if (in->label.ptr)
        LB_TRY(take_id(g, in->label));
    if (in->name.len)
        g->text[F_NAME] = in->name;
    take(&g->text[F_NAME], in->label);
    if (g->text[F_SIZE_LABEL].ptr || in->n_params == 0 || in->adapter)
        return LB_OK;
    u64 n = in->n_expert ? in->n_params_shared + in->n_params_expert : in->n_params;
    g->text[F_SIZE_LABEL] = lb_model_size_label(n, in->n_expert, g->scratch);
    return g->text[F_SIZE_LABEL].ptr ? LB_OK : no_memory(g);
}

lb_status lb_arch_meta_general(const lb_arch_meta_in *in, lb_arena *scratch, lb_gguf_meta *out,
                               lb_err *err) {
    static const char *const parents[3] = {"base_model", "base_models", "base_model_sources"};
    static const char *const data[3] = {"datasets", "dataset", "dataset_sources"};
    general g = {.scratch = scratch,
                 .n_params = (i64)LB_MIN(in->n_params, (u64)INT64_MAX) * (in->adapter ? -1 : 1),
                 .out = out,
                 .err = err};
    const lb_json *card;
    LB_TRY(read_card(&g, in->readme, in->card_err, &card));
    LB_TRY(collect(&g, in, card));
    LB_TRY(put_sampling(&g, in->generation));
    for (u32 f = 0; f < F_COUNT; f++)
        LB_TRY(put_text(&g, fields[f].key, g.text[f]));
    LB_TRY(put_origins(&g, card, "base_model", parents));
    LB_TRY(put_origins(&g, card, "dataset", data));
    LB_TRY(put_list(&g, card, "general.tags", "tags", "pipeline_tag"));
    return put_list(&g, card, "general.languages", "languages", "language");
}
