/* SPDX-License-Identifier: Apache-2.0 */
/* test_damage.c: files that lie beside others, cut at every byte and with flipped bits: the files
 * of a split GGUF, configs of MLX folders, the journal of an interrupted run, sums and lbrx.json,
 * tokenizer files and what a GGUF keeps of them. (Single parsers have such tests of their own:
 * test_gguf, test_safetensors, test_folder, test_json, test_yaml, test_tok_parts.) */
#include "base/os.h"
#include "format/folder.h"
#include "format/gguf.h"
#include "ops/verify.h"
#include "plan/sink_internal.h"
#include "st_files.h"
#include "test.h"
#include "text/tokdata.h"
#include "tokhelp.h"

static lb_err err;

/* As st_write, but the file stays the same one: a new one each time would take half the test, and
 * so would one that was empty in between (ext4 writes it out then). */
static void put(const char *dir, const char *name, const u8 *bytes, size_t len) {
    const char *path = st_path(dir, name);
    int fd = -1;
    if (lb_os_open_write(path, false, &fd, &err) != LB_OK ||
        lb_os_pwrite(fd, path, bytes, len, 0, &err) != LB_OK ||
        lb_os_truncate(fd, path, len, &err) != LB_OK)
        lb_test_fail(__FILE__, __LINE__, "%s", err.msg);
    lb_os_close(&fd);
}

static void copy_golden(const char *rel, const char *dir, const char *name) {
    st_copy(lb_test_golden(rel), dir, name);
}

/* Flips 1 to 3 bits and notes them, to be flipped back by a second call. */
static void flip(u8 *bytes, size_t len, u64 bits[3], u64 *n) {
    for (u64 i = 0; i < *n; i++)
        bytes[bits[i] / 8] ^= (u8)(1u << (bits[i] % 8));
    if (*n) {
        *n = 0;
        return;
    }
    *n = 1 + lb_test_rand_below(3);
    for (u64 i = 0; i < *n; i++) {
        bits[i] = lb_test_rand_below((u64)len * 8);
        bytes[bits[i] / 8] ^= (u8)(1u << (bits[i] % 8));
    }
}

/* ---- files of a split GGUF ---- */

LB_TEST(split_files_cut_at_every_byte) {
    const char *dir = st_dir("split");
    char name[64], rel[80], first[512];
    for (u32 k = 1; k <= 6; k++) {
        (void)snprintf(name, sizeof name, "split4000first-%05u-of-00006.gguf", k);
        (void)snprintf(rel, sizeof rel, "gguf/%s", name);
        copy_golden(rel, dir, name);
    }
    (void)snprintf(first, sizeof first, "%s/split4000first-00001-of-00006.gguf", dir);
    for (u32 k = 1; k <= 3; k++) {
        size_t len;
        (void)snprintf(name, sizeof name, "split4000first-%05u-of-00006.gguf", k);
        u8 *bytes = st_slurp(st_path(dir, name), &len);
        u64 n_padding = 0;
        for (size_t n = 0; n < len; n++) {
            lb_source *s = NULL;
            put(dir, name, bytes, n);
            lb_status st = lb_gguf_open(&s, first, &err);
            lb_source_close(&s);
            if (st == LB_OK) { /* nothing but the padding at the end of the data is gone */
                n_padding++;
                continue;
            }
            CHECK(st == LB_E_FORMAT && strstr(err.msg, name));
        }
        CHECK(n_padding < 32);
        put(dir, name, bytes, len);
        lb_free(bytes);
    }
}

/* ---- configs of folders ---- */

static void config_damage(const char *golden_dir, bool index) {
    const char *dir = st_dir("config");
    char rel[128];
    const char *name = index ? LB_INDEX_NAME : "config.json";
    size_t len;
    (void)snprintf(rel, sizeof rel, "%s/config.json", golden_dir);
    copy_golden(rel, dir, "config.json");
    (void)snprintf(rel, sizeof rel, "%s/model.safetensors", golden_dir);
    copy_golden(rel, dir, "model.safetensors");
    (void)snprintf(rel, sizeof rel, "%s/%s", golden_dir, name);
    u8 *bytes = st_slurp(lb_test_golden(rel), &len);
    size_t text = len;
    while (text && (bytes[text - 1] == '\n' || bytes[text - 1] == ' '))
        text--;
    for (size_t n = 0; n < text; n += 1 + n / 512) {
        lb_source *s = NULL;
        put(dir, name, bytes, n);
        CHECK(lb_folder_open(&s, dir, &err) == LB_E_FORMAT);
        CHECK(strstr(err.msg, name));
    }
    for (u32 i = 0; i < 600; i++) {
        lb_source *s = NULL;
        u64 bits[3], n = 0;
        flip(bytes, len, bits, &n);
        put(dir, name, bytes, len);
        err.msg[0] = 0;
        lb_status st = lb_folder_open(&s, dir, &err);
        CHECK(st == LB_OK || (err.msg[0] && lb_status_exit(st) == 3));
        for (u64 w = 0; s && w < s->n_weights; w++)
            for (u32 k = 0; k < s->weights[w].n_parts; k++)
                CHECK(s->weights[w].part[k] < s->n_tensors);
        lb_source_close(&s);
        flip(bytes, len, bits, &n);
    }
    lb_free(bytes);
}

LB_TEST(configs_of_quantized_folders) {
    config_damage("st/mlx_null", false);
    config_damage("st/mlx_all", false);
}

/* ---- the journal ---- */

#define JOBS 3
#define TENSORS 2

typedef struct journal {
    lb_source source;
    const lb_source *sources[1];
    lb_hash128 hashes[TENSORS];
    u8 used[TENSORS], kept[JOBS];
    lb_stream streams[JOBS][2];
    lb_plan_source src;
    lb_job jobs[JOBS];
    lb_plan plan;
    lb_sink sink;
} journal;

static void journal_init(journal *j) {
    static const u32 n_streams[JOBS] = {1, 2, 1};
    *j = (journal){.source = {.n_tensors = TENSORS}};
    j->sources[0] = &j->source;
    j->src = (lb_plan_source){.tensor_hash = j->hashes, .used = j->used};
    for (u32 i = 0; i < JOBS; i++)
        j->jobs[i] = (lb_job){.n_streams = n_streams[i], .streams = j->streams[i]};
    j->plan = (lb_plan){.jobs = j->jobs, .n_jobs = JOBS, .src = &j->src, .identity = {1, 2}};
    j->plan.graph.sources = j->sources;
    j->plan.graph.n_sources = 1;
    j->sink = (lb_sink){.plan = &j->plan,
                        .kept = j->kept,
                        .o = {.path = "out"},
                        .journal_fd = -1,
                        .journal_path = st_path(lb_test_dir(), "journal")};
}

static lb_status journal_read(journal *j, lb_str text, bool *fresh) {
    put(lb_test_dir(), "journal", (const u8 *)text.ptr, text.len);
    LB_TRY(lb_os_open_read(j->sink.journal_path, &j->sink.journal_fd, &err));
    lb_status st = lb_journal_read(&j->sink, fresh, &err);
    lb_os_close(&j->sink.journal_fd);
    lb_arena_deinit(&j->sink.arena);
    return st;
}

static u64 n_kept(const journal *j) {
    u64 n = 0;
    for (u32 i = 0; i < JOBS; i++)
        n += j->kept[i];
    return n;
}

/* Records of three jobs and a tensor after the head, as the sink writes them. */
static void journal_text(lb_buf *out) {
    static const char *const records[JOBS + 1] = {
        "src 0:1:00000000000000040000000000000005 ", "job 0 00000000000000010000000000000002 3 0 ",
        "job 1 00000000000000060000000000000007 0 0 00000000000000080000000000000009 1 2 ",
        "job 2 000000000000000a000000000000000b 0 0 "};
    char hex[33], check[33], line[256];
    lb_hash_hex((lb_hash128){1, 2}, hex);
    for (u32 i = 0; i <= JOBS + 1; i++) {
        if (i == 0)
            (void)snprintf(line, sizeof line, "lbrx-journal 2 %s %s ", LB_VERSION, hex);
        else
            (void)snprintf(line, sizeof line, "%s", records[i - 1]);
        lb_hash_hex(lb_xxh128(line, strlen(line)), check);
        lb_buf_printf(out, "%s%.16s\n", line, check);
    }
}

/* Whatever happened to the text: the jobs kept are the first ones, and what they say is true. */
static bool journal_sound(const journal *j, const journal *whole, bool fresh, u64 len) {
    u64 n = 0;
    while (n < JOBS && j->kept[n])
        n++;
    for (u64 i = n; i < JOBS; i++)
        if (j->kept[i])
            return false;
    for (u64 i = 0; i < n; i++)
        for (u32 k = 0; k < j->jobs[i].n_streams; k++)
            if (!lb_hash_eq(j->streams[i][k].hash, whole->streams[i][k].hash) ||
                j->streams[i][k].n_rounded != whole->streams[i][k].n_rounded)
                return false;
    return n == n_kept(j) && j->sink.journal_len <= len && (!fresh || n == 0);
}

LB_TEST(journal_damage) {
    journal whole, j;
    lb_buf text = {0};
    bool fresh = true;
    journal_text(&text);
    journal_init(&whole);
    CHECK_OK(journal_read(&whole, lb_buf_str(&text), &fresh));
    CHECK(!fresh && n_kept(&whole) == JOBS && whole.sink.journal_len == text.len);
    CHECK(whole.streams[1][1].n_overflowed == 2 && (whole.used[1] & LB_USED_HASHED));
    u64 n_lines = 0;
    for (size_t n = 0; n < text.len; n++) {
        n_lines += n && text.ptr[n - 1] == '\n';
        journal_init(&j);
        CHECK_OK(journal_read(&j, lb_str_sub(lb_buf_str(&text), 0, n), &fresh));
        CHECK(journal_sound(&j, &whole, fresh, n));
        CHECK(fresh == (n_lines == 0));
        CHECK_U64(n_kept(&j), n_lines > 2 ? n_lines - 2 : 0);
    }
    for (u64 bit = 0; bit < text.len * 8; bit++) {
        text.ptr[bit / 8] ^= (u8)(1u << (bit % 8));
        journal_init(&j);
        lb_status st = journal_read(&j, lb_buf_str(&text), &fresh);
        CHECK((st == LB_OK || st == LB_E_FORMAT) && n_kept(&j) < JOBS);
        CHECK(journal_sound(&j, &whole, fresh, text.len));
        text.ptr[bit / 8] ^= (u8)(1u << (bit % 8));
    }
    /* a good journal of another plan */
    journal_init(&j);
    j.plan.identity.lo++;
    CHECK(journal_read(&j, lb_buf_str(&text), &fresh) == LB_E_FORMAT);
    CHECK(strstr(err.msg, "'out'") && strstr(err.msg, "--resume"));
    lb_buf_deinit(&text);
}

/* ---- sums beside a model ---- */

static lb_status verify(const char *dir, u64 *n_problems) {
    static lb_kernels kernels;
    lb_arena perm = {0};
    lb_verify v = {0};
    lb_source *s = NULL;
    lb_kernels_init(&kernels, 0);
    lb_verify_options o = {.kernels = &kernels, .n_threads = 1, .memory_bytes = 64 * LB_MIB};
    err.msg[0] = 0;
    lb_status st = lb_folder_open(&s, dir, &err);
    if (st == LB_OK)
        st = lb_verify_run(&v, s, &o, &perm, &err);
    *n_problems = v.n_problems;
    lb_source_close(&s);
    lb_arena_deinit(&perm);
    return st;
}

/* A damaged file of sums is an error or a problem that is shown, never a model that is all right.
 */
static void sums_damage(const char *dir, const char *name, size_t n_told) {
    size_t len;
    u64 n_problems;
    u8 *bytes = st_slurp(st_path(dir, name), &len);
    size_t text = len;
    while (text && bytes[text - 1] == '\n')
        text--;
    CHECK_OK(verify(dir, &n_problems));
    CHECK_U64(n_problems, 0);
    for (size_t n = 0; n < text; n++) {
        put(dir, name, bytes, n);
        lb_status st = verify(dir, &n_problems);
        bool none = st == LB_OK && (n == 0 || n >= n_told); /* no sum, none that is wrong */
        if (!none && !(st == LB_OK ? n_problems > 0 : lb_status_exit(st) == 3 && err.msg[0]))
            lb_test_fail(__FILE__, __LINE__, "%s cut at %zu: %s", name, n, err.msg);
    }
    for (u64 bit = 0; bit < text * 8; bit++) {
        bytes[bit / 8] ^= (u8)(1u << (bit % 8));
        put(dir, name, bytes, len);
        lb_status st = verify(dir, &n_problems);
        if (st != LB_OK && (lb_status_exit(st) != 3 || !err.msg[0]))
            lb_test_fail(__FILE__, __LINE__, "%s, bit %llu: %s", name, (unsigned long long)bit,
                         err.msg);
        bytes[bit / 8] ^= (u8)(1u << (bit % 8));
    }
    put(dir, name, bytes, len);
    lb_free(bytes);
}

LB_TEST(sums_and_provenance) {
    const char *dir = st_dir("sums");
    char text[256], hex[65];
    u8 zeros[8] = {0};
    size_t len;
    lb_sha256 sha;
    st_file(dir, "model.safetensors", "pt", "a F32 2");
    st_text(dir, "config.json", "{}");
    lb_hash_hex(lb_xxh128(zeros, sizeof zeros), hex);
    (void)snprintf(text, sizeof text, "{\"schema\": 1, \"tensors\": {\"a\": \"%s\"}}\n", hex);
    st_text(dir, "lbrx.json", text);
    sums_damage(dir, "lbrx.json", SIZE_MAX);
    u8 *bytes = st_slurp(st_path(dir, "model.safetensors"), &len);
    lb_sha256_init(&sha);
    lb_sha256_update(&sha, bytes, len);
    lb_sha256_hex(&sha, hex);
    (void)snprintf(text, sizeof text, "%s  model.safetensors\n", hex);
    st_text(dir, "SHA256SUMS", text);
    sums_damage(dir, "SHA256SUMS", 67);
    lb_free(bytes);
}

/* ---- tokenizer files ---- */

static lb_status to_keys(const char *dir, const char *arch, bool keep, lb_gguf_meta *meta) {
    lb_tok_opts opts = {.arch = lb_str_c(arch), .keep = keep};
    err.msg[0] = 0;
    lb_source *s = tok_source(dir, &err);
    if (!s)
        return err.code;
    lb_status st = tok_keys(s, &opts, meta, &err);
    lb_source_close(&s);
    return st;
}

static const char *copy_tokenizer(const char *family) {
    static const char *const names[] = {"config.json",       "tokenizer.json",
                                        "tokenizer.model",   "tokenizer_config.json",
                                        "added_tokens.json", "special_tokens_map.json"};
    const char *dir = st_dir(family);
    for (size_t i = 0; i < LB_LEN(names); i++) {
        char rel[128];
        (void)snprintf(rel, sizeof rel, "text/%s/%s", family, names[i]);
        if (lb_os_exists(lb_test_golden(rel)))
            copy_golden(rel, dir, names[i]);
    }
    return dir;
}

/* Cut: an error where the file is needed; flipped: an error with a message, or keys. */
static void tokenizer_damage(const char *family, const char *arch, const char *name, bool needed,
                             u32 step) {
    const char *dir = copy_tokenizer(family);
    size_t len;
    u8 *bytes = st_slurp(st_path(dir, name), &len);
    u64 bits[3], n = 0;
    size_t text = len;
    while (text && (bytes[text - 1] == '\n' || bytes[text - 1] == ' '))
        text--;
    for (size_t cut = 0; cut < text; cut += step) {
        lb_arena a = {0};
        lb_gguf_meta meta;
        lb_meta_init(&meta, &a);
        put(dir, name, bytes, cut);
        lb_status st = to_keys(dir, arch, true, &meta);
        bool unread = needed ? false : st == LB_OK;
        if (!unread && (st != LB_E_FORMAT || !strstr(err.msg, name)))
            lb_test_fail(__FILE__, __LINE__, "%s %s cut at %zu: %s", family, name, cut, err.msg);
        lb_meta_deinit(&meta);
        lb_arena_deinit(&a);
    }
    for (u32 i = 0; i < 150; i++) {
        lb_arena a = {0};
        lb_gguf_meta meta;
        lb_tok_file *files;
        u64 n_files;
        lb_meta_init(&meta, &a);
        flip(bytes, len, bits, &n);
        put(dir, name, bytes, len);
        lb_status st = to_keys(dir, arch, true, &meta);
        if (st == LB_OK)
            st = lb_tok_files_from_meta(&meta, &a, &files, &n_files, &err);
        CHECK(st == LB_OK || (err.msg[0] && lb_status_exit(st) == 3));
        flip(bytes, len, bits, &n);
        lb_meta_deinit(&meta);
        lb_arena_deinit(&a);
    }
    lb_free(bytes);
}

LB_TEST(tokenizer_files) {
    tokenizer_damage("smollm", "llama", "tokenizer.json", true, 16);
    tokenizer_damage("smollm", "llama", "tokenizer_config.json", true, 1);
    tokenizer_damage("llama3", "llama", "special_tokens_map.json", false, 1);
    tokenizer_damage("spm_llama", "llama", "added_tokens.json", true, 1);
}

/* What a GGUF keeps of the files, cut and flipped under a sum that still fits. */
static void kept_damage(const char *family, const char *arch, const char *key) {
    lb_arena a = {0};
    lb_gguf_meta meta;
    lb_meta_init(&meta, &a);
    CHECK_OK(to_keys(copy_tokenizer(family), arch, true, &meta));
    const lb_gguf_kv *kv = lb_meta_find(&meta, key);
    CHECK(kv);
    bool is_str = kv->type == LB_GGUF_STR;
    lb_str value = is_str ? kv->v.s : (lb_str){kv->v.array, (size_t)kv->n};
    u8 *bytes = lb_alloc(value.len);
    CHECK(bytes != NULL);
    memcpy(bytes, value.ptr, value.len);
    u64 n_refused = 0, bits[3], n = 0;
    for (u32 i = 0; i < 600; i++) {
        lb_arena own = {0};
        lb_tok_file *files;
        u64 n_files, len = value.len;
        if (i % 2)
            len = lb_test_rand_below(value.len);
        else
            flip(bytes, value.len, bits, &n);
        CHECK_OK(is_str ? lb_meta_set_str(&meta, key, (lb_str){(char *)bytes, (size_t)len}, &err)
                        : lb_meta_set_array(&meta, key, LB_GGUF_U8, len, bytes, &err));
        err.msg[0] = 0;
        lb_status st = lb_tok_files_from_meta(&meta, &own, &files, &n_files, &err);
        CHECK(st == LB_OK || (err.msg[0] && lb_status_exit(st) == 3));
        n_refused += st != LB_OK;
        if (i % 2 == 0)
            flip(bytes, value.len, bits, &n);
        lb_arena_deinit(&own);
    }
    CHECK(n_refused > 20);
    lb_free(bytes);
    lb_meta_deinit(&meta);
    lb_arena_deinit(&a);
}

LB_TEST(kept_tokenizers) {
    kept_damage("smollm", "llama", "lbrx.hf.tokenizer");
    kept_damage("smollm", "llama", "lbrx.hf.tokenizer_form");
    kept_damage("spm_gemma", "gemma3", "lbrx.hf.tokenizer_model");
}

/* Ranges of ids that cover each other would be walked for hours. */
LB_TEST(kept_ranges_in_order) {
    static const char *const forms[] = {"[[0,9],[9,10]]", "[[5,4]]", "[[0,9],[0,9]]", "[[0,440]]"};
    lb_arena a = {0};
    lb_gguf_meta meta;
    lb_tok_file *files;
    u64 n;
    lb_meta_init(&meta, &a);
    CHECK_OK(to_keys(copy_tokenizer("smollm"), "llama", true, &meta));
    for (size_t i = 0; i <= LB_LEN(forms); i++) {
        lb_str form = lb_arena_printf(&a, "{\"n_ids\":440,\"merges\":\"none\",\"outside\":%s}",
                                      i < LB_LEN(forms) ? forms[i] : "[[0,9],[10,439]]");
        CHECK_OK(lb_meta_set_str(&meta, "lbrx.hf.tokenizer_form", form, &err));
        lb_status st = lb_tok_files_from_meta(&meta, &a, &files, &n, &err);
        CHECK(st == (i < LB_LEN(forms) ? LB_E_FORMAT : LB_OK));
        CHECK(st == LB_OK || strstr(err.msg, "a range that is none"));
    }
    lb_meta_deinit(&meta);
    lb_arena_deinit(&a);
}

/* A vocabulary of n tokens of the letter a: of 1, 2, 3... letters, or one of `longest`. */
static lb_status spm_files(u64 n, u64 longest, lb_arena *a) {
    lb_gguf_meta meta;
    lb_tok_file *files;
    u64 n_files;
    lb_str *token = lb_arena_new(a, lb_str, n);
    float *score = lb_arena_new(a, float, n);
    i32 *type = lb_arena_new(a, i32, n);
    char *text = lb_arena_push(a, LB_MAX(n, longest) + 1, 1);
    if (!token || !score || !type || !text)
        return LB_E_NOMEM;
    memset(text, 'a', LB_MAX(n, longest));
    for (u64 i = 0; i < n; i++) {
        token[i] = (lb_str){text, (size_t)(longest && i == n - 1 ? longest : i + 1)};
        score[i] = -(float)i;
        type[i] = 1;
    }
    lb_meta_init(&meta, a);
    LB_TRY(lb_meta_set_str(&meta, "tokenizer.ggml.model", LB_STR("llama"), &err));
    LB_TRY(lb_meta_set_array(&meta, "tokenizer.ggml.tokens", LB_GGUF_STR, n, token, &err));
    LB_TRY(lb_meta_set_array(&meta, "tokenizer.ggml.scores", LB_GGUF_F32, n, score, &err));
    LB_TRY(lb_meta_set_array(&meta, "tokenizer.ggml.token_type", LB_GGUF_I32, n, type, &err));
    lb_status st = lb_tok_files_from_meta(&meta, a, &files, &n_files, &err);
    lb_meta_deinit(&meta);
    return st;
}

/* Nobody's vocabulary, but a file may hold it: neither hours nor gigabytes. */
LB_TEST(tokens_that_explode) {
    lb_arena a = {0};
    u64 begin = lb_test_cpu_us();
    CHECK_OK(spm_files(20, 4 * LB_MIB, &a));
    CHECK(!lb_test_timed() || lb_test_cpu_us() - begin < 3000000);
    CHECK_OK(spm_files(200, 0, &a));
    CHECK(spm_files(1500, 0, &a) == LB_E_UNSUPPORTED);
    CHECK(strstr(err.msg, "of merges"));
    lb_arena_deinit(&a);
}

LB_TEST_MAIN("slow")
