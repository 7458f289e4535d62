/* SPDX-License-Identifier: Apache-2.0 */
/* test_adapter.c: LoRA adapters between PEFT, MLX and GGUF: the same bytes back, orientation and
 * rows of what lies between, scales, and what is refused by name. The peers:
 * tests/peers/peer_adapter.py. */
#include "base/cpu.h"
#include "base/os.h"
#include "ops/convert.h"
#include "ops/open.h"
#include "st_files.h"
#include "test.h"

static lb_err err;
static lb_buf remarks; /* of the last conversion */

static const char base_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 8,"
    "\"intermediate_size\": 12, \"num_attention_heads\": 2, \"num_key_value_heads\": 1,"
    "\"num_hidden_layers\": 1, \"vocab_size\": 6, \"rms_norm_eps\": 1e-5,"
    "\"max_position_embeddings\": 64, \"rope_theta\": 10000.0}";
static const char peft_config[] =
    "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 6, \"target_modules\": [\"q_proj\"],"
    "\"base_model_name_or_path\": \"nowhere/base\"}\n";

/* A file of f32 tensors "name d0 d1;..."; element i of all of them is i. */
static void write_tensors(const char *dir, const char *file, const char *list) {
    lb_buf head = {0}, data = {0};
    char copy[1024], *save = NULL;
    u64 at = 0;
    u8 len[8];
    snprintf(copy, sizeof copy, "%s", list);
    lb_buf_put_c(&head, "{");
    for (char *one = strtok_r(copy, ";", &save); one; one = strtok_r(NULL, ";", &save)) {
        char name[256];
        unsigned d0, d1;
        if (sscanf(one, "%255s %u %u", name, &d0, &d1) != 3)
            return;
        lb_buf_printf(&head,
                      "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%u,%u],\"data_offsets\":[%llu,%llu]}",
                      at ? "," : "", name, d0, d1, (unsigned long long)at,
                      (unsigned long long)(at + 4ull * d0 * d1));
        for (u64 i = 0; i < (u64)d0 * d1; i++)
            lb_buf_put_u32(&data, lb_f32_bits((float)(at / 4 + i)));
        at += 4ull * d0 * d1;
    }
    lb_buf_put_c(&head, "}");
    lb_store_u64(len, head.len);
    lb_buf all = {0};
    lb_buf_put(&all, len, 8);
    lb_buf_put(&all, head.ptr, head.len);
    lb_buf_put(&all, data.ptr, data.len);
    st_write(dir, file, all.ptr, all.len);
    lb_buf_deinit(&head);
    lb_buf_deinit(&data);
    lb_buf_deinit(&all);
}

#define Q "base_model.model.model.layers.0.self_attn.q_proj"
#define DOWN "base_model.model.model.layers.0.mlp.down_proj"
#define X "base_model.model.model.layers.0.mlp.experts"
#define EMBED "base_model.model.model.embed_tokens"

static const char *make_base(void) {
    const char *dir = st_dir("base");
    st_text(dir, "config.json", base_config);
    write_tensors(dir, "model.safetensors", "model.norm.weight 1 8");
    return dir;
}

static const char *make_peft(const char *config, const char *tensors) {
    const char *dir = st_dir("peft");
    st_text(dir, "adapter_config.json", config);
    write_tensors(dir, "adapter_model.safetensors", tensors);
    return dir;
}

static lb_status convert_set(const char *in, const char *out, lb_to to, const char *base,
                             const char *set) {
    lb_kernels k;
    lb_source *s = NULL;
    lb_buf plan = {0};
    lb_out_report report = {0};
    lb_kernels_init(&k, lb_cpu_isa());
    lb_convert_opts o = {.verb = "convert",
                         .base = base,
                         .set = &set,
                         .n_set = set != NULL,
                         .w = {.kernels = &k,
                               .output = out,
                               .to = to,
                               .no_sync = true,
                               .threads = 1,
                               .force = true,
                               .memory_bytes = 64 * LB_MIB}};
    err = (lb_err){0};
    lb_buf_reset(&remarks);
    lb_status st = lb_open(&s, in, &err);
    if (st == LB_OK)
        st = lb_convert(s, &o, &plan, &remarks, &report, &err);
    lb_source_close(&s);
    lb_buf_deinit(&plan);
    return st;
}

static lb_status convert(const char *in, const char *out, lb_to to, const char *base) {
    return convert_set(in, out, to, base, NULL);
}

/* Element [row][col] of a stored f32 matrix of the given shape; -1: it is not there so. */
static float at(const char *model, const char *name, u64 d0, u64 d1, u64 row, u64 col) {
    lb_source *s = NULL;
    float v = -1;
    int fd = -1;
    if (lb_open(&s, model, &err) != LB_OK)
        return -1;
    const lb_tensor *t = lb_source_tensor(s, lb_str_c(name));
    if (t && t->dtype == LB_F32 && t->shape.rank == 2 && t->shape.dim[0] == d0 &&
        t->shape.dim[1] == d1 && lb_os_open_read(s->files[t->file].path, &fd, &err) == LB_OK)
        (void)lb_os_pread(fd, "the model", &v, 4, t->off_bytes + 4 * (row * d1 + col), &err);
    lb_os_close(&fd);
    lb_source_close(&s);
    return v;
}

static bool same_files(const char *a, const char *b, const char *name) {
    size_t n, m;
    u8 *p = st_slurp(st_path(a, name), &n), *q = st_slurp(st_path(b, name), &m);
    bool same = n == m && memcmp(p, q, n) == 0;
    lb_free(p);
    lb_free(q);
    return same;
}

static bool same_tensors(const char *a, const char *b) {
    lb_source *x = NULL, *y = NULL;
    bool ok = lb_open(&x, a, &err) == LB_OK && lb_open(&y, b, &err) == LB_OK &&
              x->n_tensors == y->n_tensors;
    for (u64 i = 0; ok && i < x->n_tensors; i++) {
        const lb_tensor *t = &x->tensors[i], *u = lb_source_tensor(y, t->name);
        ok = u && lb_shape_eq(&t->shape, &u->shape);
        for (u64 k = 0; ok && k < t->n_elems; k++) {
            u64 d1 = t->shape.dim[1];
            char name[256];
            snprintf(name, sizeof name, "%.*s", LB_FMT(t->name));
            ok = at(a, name, t->shape.dim[0], d1, k / d1, k % d1) ==
                 at(b, name, t->shape.dim[0], d1, k / d1, k % d1);
        }
    }
    lb_source_close(&x);
    lb_source_close(&y);
    return ok;
}

LB_TEST(three_forms) {
    const char *base = make_base();
    const char *peft =
        make_peft(peft_config, Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;" DOWN
                                 ".lora_A.weight 2 12;" DOWN ".lora_B.weight 8 2;" EMBED
                                 ".lora_embedding_A 2 6;" EMBED ".lora_embedding_B 8 2");
    char gguf[600], mlx[600], back[600];
    snprintf(gguf, sizeof gguf, "%s/a.gguf", lb_test_dir());
    snprintf(mlx, sizeof mlx, "%s/mlx", lb_test_dir());
    snprintf(back, sizeof back, "%s/back", lb_test_dir());

    CHECK_OK(convert(peft, gguf, LB_TO_GGUF, base));
    /* q's B: rows of a head (4 of them) interleave its two halves: GGUF's row 1 is row 2 */
    CHECK(at(gguf, "blk.0.attn_q.weight.lora_a", 2, 8, 1, 3) ==
          at(peft, Q ".lora_A.weight", 2, 8, 1, 3));
    CHECK(at(gguf, "blk.0.attn_q.weight.lora_b", 8, 2, 1, 1) ==
          at(peft, Q ".lora_B.weight", 8, 2, 2, 1));
    CHECK(at(gguf, "blk.0.attn_q.weight.lora_b", 8, 2, 6, 0) ==
          at(peft, Q ".lora_B.weight", 8, 2, 5, 0));
    CHECK(at(gguf, "blk.0.ffn_down.weight.lora_b", 8, 2, 1, 1) ==
          at(peft, DOWN ".lora_B.weight", 8, 2, 1, 1));
    CHECK(at(gguf, "token_embd.weight.lora_a", 6, 2, 4, 1) ==
          at(peft, EMBED ".lora_embedding_A", 2, 6, 1, 4));
    CHECK_OK(convert(gguf, back, LB_TO_HF, base));
    CHECK(same_tensors(peft, back) && same_files(peft, back, "adapter_config.json"));

    CHECK_OK(convert(peft, mlx, LB_TO_MLX, NULL));
    CHECK(at(mlx, "model.layers.0.self_attn.q_proj.lora_a", 8, 2, 3, 1) ==
          at(peft, Q ".lora_A.weight", 2, 8, 1, 3));
    CHECK(at(mlx, "model.layers.0.mlp.down_proj.lora_b", 2, 8, 1, 5) ==
          at(peft, DOWN ".lora_B.weight", 8, 2, 5, 1));
    CHECK(at(mlx, "model.embed_tokens.lora_a", 6, 2, 4, 1) ==
          at(peft, EMBED ".lora_embedding_A", 2, 6, 1, 4));
    CHECK_OK(convert(mlx, back, LB_TO_HF, NULL));
    CHECK(same_tensors(peft, back) && same_files(peft, back, "adapter_config.json"));
    CHECK_OK(convert(mlx, gguf, LB_TO_GGUF, base));
    CHECK_OK(convert(gguf, mlx, LB_TO_MLX, base));
    CHECK_OK(convert(mlx, back, LB_TO_HF, base));
    CHECK(same_tensors(peft, back));
}

/* Shape of a stored tensor; rank 0: it is not there. */
static lb_shape shape_of(const char *model, const char *name) {
    lb_source *s = NULL;
    lb_shape shape = {0};
    if (lb_open(&s, model, &err) != LB_OK)
        return shape;
    const lb_tensor *t = lb_source_tensor(s, lb_str_c(name));
    if (t)
        shape = t->shape;
    lb_source_close(&s);
    return shape;
}

#define MOE "base_model.model.model.layers.0.block_sparse_moe.experts."
#define EXPERT(e)                                                           \
    MOE #e ".w1.lora_A.weight 2 8;" MOE #e ".w1.lora_B.weight 12 2;" MOE #e \
           ".w2.lora_A.weight 2 12;" MOE #e ".w2.lora_B.weight 8 2;" MOE #e \
           ".w3.lora_A.weight 2 8;" MOE #e ".w3.lora_B.weight 12 2"

/* A DoRA's lengths go between PEFT and MLX; GGUF has no place for them. */
LB_TEST(dora) {
    char mlx[600], back[600];
    snprintf(mlx, sizeof mlx, "%s/mlx", lb_test_dir());
    snprintf(back, sizeof back, "%s/back", lb_test_dir());
    const char *config =
        "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 6, \"use_dora\": true}";
    const char *peft = make_peft(config, Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;" Q
                                           ".lora_magnitude_vector 1 8");
    CHECK_OK(convert(peft, mlx, LB_TO_MLX, NULL));
    lb_shape s = shape_of(mlx, "model.layers.0.self_attn.q_proj.m");
    CHECK(s.rank == 1 && s.dim[0] == 8);
    CHECK_OK(convert(mlx, back, LB_TO_HF, NULL));
    s = shape_of(back, Q ".lora_magnitude_vector");
    CHECK(s.rank == 1 && s.dim[0] == 8);
    CHECK(same_files(peft, back, "adapter_config.json"));
}

/* Experts one by one go into the stacks of GGUF and MLX, and out of them. */
LB_TEST(experts) {
    char gguf[600], mlx[600], back[600], base[600], peft[600];
    snprintf(gguf, sizeof gguf, "%s/a.gguf", lb_test_dir());
    snprintf(mlx, sizeof mlx, "%s/mlx", lb_test_dir());
    snprintf(back, sizeof back, "%s/back", lb_test_dir());
    snprintf(base, sizeof base, "%s", st_dir("base"));
    st_text(base, "config.json",
            "{\"architectures\": [\"MixtralForCausalLM\"], \"model_type\": \"mixtral\", "
            "\"hidden_size\": 8, \"intermediate_size\": 12, \"num_attention_heads\": 2, "
            "\"num_key_value_heads\": 1, \"num_hidden_layers\": 1, \"vocab_size\": 6, "
            "\"rms_norm_eps\": 1e-5, \"max_position_embeddings\": 64, \"rope_theta\": 10000.0, "
            "\"num_local_experts\": 2, \"num_experts_per_tok\": 1}");
    write_tensors(base, "model.safetensors", "model.norm.weight 1 8");
    snprintf(peft, sizeof peft, "%s", make_peft(peft_config, EXPERT(0) ";" EXPERT(1)));
    CHECK_OK(convert(peft, gguf, LB_TO_GGUF, base));
    lb_shape s = shape_of(gguf, "blk.0.ffn_gate_exps.weight.lora_b");
    CHECK(s.rank == 3 && s.dim[0] == 2 && s.dim[1] == 12 && s.dim[2] == 2);
    CHECK_OK(convert(gguf, back, LB_TO_HF, base));
    CHECK(same_tensors(peft, back));
    CHECK_OK(convert(peft, mlx, LB_TO_MLX, base));
    s = shape_of(mlx, "model.layers.0.block_sparse_moe.switch_mlp.down_proj.lora_a");
    CHECK(s.rank == 3 && s.dim[0] == 2 && s.dim[1] == 2 && s.dim[2] == 12);
    CHECK_OK(convert(mlx, back, LB_TO_HF, base));
    CHECK(same_tensors(peft, back));
    CHECK_OK(convert(mlx, gguf, LB_TO_GGUF, base));
    CHECK_OK(convert(gguf, back, LB_TO_HF, base));
    CHECK(same_tensors(peft, back));
    /* not without the base, which says how many there are; not some of them */
    CHECK(convert(mlx, back, LB_TO_HF, NULL) == LB_E_UNSUPPORTED && strstr(err.msg, "--base"));
    CHECK(convert(make_peft(peft_config, EXPERT(0)), gguf, LB_TO_GGUF, base) == LB_E_UNSUPPORTED &&
          strstr(err.msg, "1 of 2 experts"));
    /* as parameters of one module: gate over up, a column of B an expert in turn */
    const char *own = make_peft("{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 6, "
                                "\"target_parameters\": [\"experts.gate_up_proj\"]}",
                                "base_model.model.model.layers.0.mlp.experts.lora_A.weight 4 8;"
                                "base_model.model.model.layers.0.mlp.experts.lora_B.weight 24 4");
    CHECK_OK(convert(own, back, LB_TO_MLX, base));
    s = shape_of(back, "model.layers.0.block_sparse_moe.switch_mlp.up_proj.lora_b");
    CHECK(s.rank == 3 && s.dim[0] == 2 && s.dim[1] == 12 && s.dim[2] == 2);
    CHECK_OK(convert(back, mlx, LB_TO_HF, base));
    CHECK(at(mlx, MOE "1.w3.lora_B.weight", 12, 2, 3, 1) ==
          at(own, "base_model.model.model.layers.0.mlp.experts.lora_B.weight", 24, 4, 15, 3));
    CHECK(at(mlx, MOE "1.w1.lora_A.weight", 2, 8, 1, 5) ==
          at(own, "base_model.model.model.layers.0.mlp.experts.lora_A.weight", 4, 8, 3, 5));
}

static double config_number(const char *dir, const char *key) {
    lb_arena a = {0};
    lb_str text;
    lb_json *v;
    double x = -1;
    if (lb_os_read_file(st_path(dir, "adapter_config.json"), LB_MIB, &a, &text, &err) == LB_OK &&
        lb_json_parse(text, "config", &a, &v, &err) == LB_OK)
        (void)lb_json_as_f64(lb_json_path(v, key), &x);
    lb_arena_deinit(&a);
    return x;
}

LB_TEST(scales) {
    char mlx[600], back[600];
    snprintf(mlx, sizeof mlx, "%s/mlx", lb_test_dir());
    snprintf(back, sizeof back, "%s/back", lb_test_dir());
    const char *two = Q ".lora_A.weight 4 8;" Q ".lora_B.weight 8 4";
    CHECK_OK(convert(
        make_peft("{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"use_rslora\": true}", two), mlx,
        LB_TO_MLX, NULL));
    CHECK(config_number(mlx, "lora_parameters.scale") == 3 &&
          config_number(mlx, "lora_parameters.rank") == 4);
    /* without what PEFT said before: alpha is scale times rank */
    const char *own = st_dir("own");
    st_text(own, "adapter_config.json",
            "{\"fine_tune_type\": \"lora\", \"num_layers\": 4, \"lora_parameters\": {\"rank\": 4, "
            "\"scale\": 20.0}}");
    write_tensors(
        own, "adapters.safetensors",
        "model.layers.0.self_attn.q_proj.lora_a 8 4;model.layers.0.self_attn.q_proj.lora_b 4 8");
    CHECK_OK(convert(own, back, LB_TO_HF, NULL));
    CHECK(config_number(back, "lora_alpha") == 80 && config_number(back, "r") == 4);
    CHECK_OK(convert(make_peft("{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"alpha_pattern\": "
                               "{\"self_attn.q_proj\": 9}}",
                               two),
                     mlx, LB_TO_MLX, NULL));
    CHECK(config_number(mlx, "lora_parameters.scale") == 2.25);
    /* patterns are Python's: to the end, from the beginning or a dot; the first counts */
    CHECK_OK(convert(
        make_peft("{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"alpha_pattern\": "
                  "{\"proj\": 1, \"self_attn\": 1, \"layers\\\\.\\\\d+\\\\..*(q|k)_proj\": 10, "
                  "\"q_proj\": 1}}",
                  two),
        mlx, LB_TO_MLX, NULL));
    CHECK(config_number(mlx, "lora_parameters.scale") == 2.5);
    /* llama.cpp takes an alpha of 0 for a scale of 1 */
    char gguf[600], base[600];
    snprintf(gguf, sizeof gguf, "%s/zero.gguf", lb_test_dir());
    snprintf(base, sizeof base, "%s", make_base());
    CHECK_OK(convert_set(make_peft("{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 6}", two),
                         gguf, LB_TO_GGUF, base, "adapter.lora.alpha=f32:0"));
    CHECK_OK(convert(gguf, mlx, LB_TO_MLX, base));
    CHECK(config_number(mlx, "lora_parameters.scale") == 1);
}

/* Adapters are named in some files; what is the base model's is left out and said. */
LB_TEST(names_and_base_layers) {
    char mlx[600];
    snprintf(mlx, sizeof mlx, "%s/mlx", lb_test_dir());
    CHECK_OK(convert(make_peft("{\"peft_type\": \"LORA\", \"lora_alpha\": 6,"
                               "\"target_parameters\": [], \"layer_replication\": null}",
                               Q ".lora_A.default.weight 2 8;" Q ".lora_B.default.weight 8 2;" EMBED
                                 ".lora_embedding_A.default 2 6;" EMBED
                                 ".lora_embedding_B.default 8 2;" EMBED ".base_layer.weight 6 8"),
                     mlx, LB_TO_MLX, NULL));
    CHECK(at(mlx, "model.embed_tokens.lora_a", 6, 2, 1, 1) == 39); /* behind 32 of q_proj */
    size_t where;
    CHECK(lb_str_find(lb_buf_str(&remarks), LB_STR("1 tensors NAME.base_layer.weight left out"),
                      &where));
    lb_buf_deinit(&remarks);
    remarks = (lb_buf){0};
}

/* Between PEFT and MLX the base model only helps: a broken one is said, and stops GGUF alone. */
LB_TEST(broken_base) {
    static const char *const broken[] = {"{", "{\"architectures\": [\"NoSuchForCausalLM\"]}"};
    char mlx[600], gguf[600], config[1200];
    snprintf(mlx, sizeof mlx, "%s/mlx", lb_test_dir());
    snprintf(gguf, sizeof gguf, "%s/a.gguf", lb_test_dir());
    for (size_t i = 0; i < LB_LEN(broken); i++) {
        size_t where;
        const char *base = make_base();
        st_text(base, "config.json", broken[i]);
        snprintf(config, sizeof config,
                 "{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"base_model_name_or_path\": "
                 "\"%s\"}",
                 base);
        const char *peft = make_peft(config, Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2");
        CHECK_OK(convert(peft, mlx, LB_TO_MLX, NULL));
        CHECK(lb_str_find(lb_buf_str(&remarks), LB_STR("the base model cannot be read"), &where));
        lb_status st = convert(peft, gguf, LB_TO_GGUF, NULL);
        CHECK(st == LB_E_FORMAT || st == LB_E_UNSUPPORTED);
        CHECK(strstr(err.msg, "the adapter's base model"));
        st = convert(peft, mlx, LB_TO_MLX, base); /* asked for */
        CHECK(st == LB_E_FORMAT || st == LB_E_UNSUPPORTED);
    }
    lb_buf_deinit(&remarks);
    remarks = (lb_buf){0};
}

LB_TEST(refusals) {
    static const struct {
        const char *config, *tensors, *says;
        bool gguf, base;
    } cases[] = {
        {peft_config, Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "--base", true, false},
        {peft_config, Q ".lora_A.weight 2 8", "has no matrix B", false, false},
        {peft_config, Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 3", "has rank", false, false},
        {peft_config,
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;base_model.model.lm_head.weight 6 8",
         "would be lost", false, false},
        {peft_config, Q ".lora_A.weight 4 8;" Q ".lora_B.weight 8 4", "says 2", false, false},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"init_lora_weights\": \"pissa_niter_4\"}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "pissa_niter_4", false, false},
        {peft_config, Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;" Q ".lora_E 2 1", "not known",
         false, false},
        {"{\"peft_type\": \"LORA\", \"use_dora\": true, \"lora_alpha\": 1}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;" Q ".lora_magnitude_vector 1 8", "DoRA",
         true, true},
        {peft_config,
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;" Q ".lora_magnitude_vector 1 8",
         "does not say", false, false},
        {peft_config,
         "base_model.model.model.layers.0.x.lora_A.weight 2 8;base_model.model.model.layers.0.x"
         ".lora_B.weight 8 2",
         "no such tensor", true, true},
        {"{\"peft_type\": \"LORA\", \"use_dora\": true, \"lora_alpha\": 1}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "no magnitude", false, false},
        {"{\"peft_type\": \"IA3\"}", Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "not LORA",
         false, false},
        {"{\"peft_type\": \"LORA\"}", Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "lora_alpha",
         false, false},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"alpha_pattern\": {\"(q|k_proj\": 9}}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "alpha_pattern '(q|k_proj'", false, false},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"alpha_pattern\": {\"q_proj\": 9}}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;" DOWN ".lora_A.weight 2 12;" DOWN
           ".lora_B.weight 8 2",
         "one for all", true, true},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 6}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;" DOWN ".lora_A.weight 3 12;" DOWN
           ".lora_B.weight 8 3",
         "for all", false, false},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"r\": 2, \"target_parameters\": "
         "[\"experts.x\"]}",
         X ".lora_A.weight 2 8;" X ".lora_B.weight 8 2", "target_parameters", false, false},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"layer_replication\": [[0, 1], [0, 1]]}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "layer_replication", false, false},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"use_qalora\": true}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "use_qalora", false, false},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 6, \"alora_invocation_tokens\": [3]}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "alora_invocation_tokens", true, true},
        {"{\"peft_type\": \"LORA\", \"lora_alpha\": 0, \"use_qalora\": false}",
         Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2", "alpha of 0", true, true},
        {peft_config, Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;" Q ".lora_B.bias 1 8",
         "would be lost", false, false},
        {peft_config, Q ".lora_A.weight 2 8;" Q ".lora_B.weight 8 2;" Q ".base_layer.bias 1 8",
         "would be lost", false, false},
    };
    char out[600], base[600];
    snprintf(base, sizeof base, "%s", make_base()); /* outlives st_dir's ring */
    snprintf(out, sizeof out, "%s/refused", lb_test_dir());
    for (size_t i = 0; i < LB_LEN(cases); i++) {
        size_t where;
        const char *dir = make_peft(cases[i].config, cases[i].tensors);
        lb_status st =
            convert(dir, out, cases[i].gguf ? LB_TO_GGUF : LB_TO_MLX, cases[i].base ? base : NULL);
        if (st == LB_OK || !lb_str_find(lb_str_c(err.msg), lb_str_c(cases[i].says), &where))
            lb_test_fail(__FILE__, __LINE__, "case %zu: %d '%s', expected '%s'", i, (int)st,
                         err.msg, cases[i].says);
        CHECK(!lb_os_exists(out));
    }
}

LB_TEST_MAIN("fast")
