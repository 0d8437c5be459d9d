/* distkmeans, compiled: the assignment by integer heads and for narrow rows, exact sums, means and inertia.

   One source for all processors: what depends on the instruction set is included once for each and chosen at run time.
   Plain functions for ctypes; no Python, and no OpenMP but for the threads that torch lends. What is published is proved elsewhere: see kernels/head.py for the
   bounds, exact/fixed_point.py for the sums. Nothing here may be compiled with -ffast-math. */
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define ISA_NAME(name, suffix) name##_##suffix

#define V(name) ISA_NAME(name, avx512)
#define ISA_AVX512
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,f16c,fma,avx2,bmi,bmi2,lzcnt,popcnt")
#include "isa.h"
#include "heads.h"
#include "kernel.h"
#include "narrow.h"
#include "seeding.h"
#include "sums.h"
#include "undefine.h"
#pragma GCC pop_options
#undef ISA_AVX512
#undef V

#define V(name) ISA_NAME(name, avx2)
#define ISA_AVX2
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,bmi,bmi2,lzcnt,popcnt")
#include "isa.h"
#include "heads.h"
#include "kernel.h"
#include "narrow.h"
#include "seeding.h"
#include "sums.h"
#include "undefine.h"
#pragma GCC pop_options
#undef ISA_AVX2
#undef V
#endif

#define V(name) name##_generic
#include "isa.h"
#include "heads.h"
#include "kernel.h"
#include "narrow.h"
#include "seeding.h"
#include "sums.h"

/* The OpenMP threads that torch already keeps, if the loader found them: others would fight with them for the cores. */
typedef void Parallel(void (*run)(void *), void *argument, unsigned threads, unsigned flags);
typedef int Number(void);
static Parallel *pool;
static Number *pool_part, *pool_parts;

void dkm_use_pool(Parallel *parallel, Number *part, Number *parts) {
    pool = parallel, pool_part = part, pool_parts = parts;
}

/* What threads of the pool share; else threads that live for one call, of which the caller is one. */
typedef struct {
    Part *run;
    void *argument;
    int part, parts;
} Job;

static void *work(void *argument) {
    const Job *job = argument;
    job->run(job->argument, job->part, job->parts);
    return 0;
}

static void work_in_pool(void *argument) {
    const Job *job = argument;
    for (int part = pool_part(); part < job->parts; part += pool_parts()) job->run(job->argument, part, job->parts);
}

static void parallel(Part *run, void *argument, int threads) {
    enum { MOST = 256 };
    pthread_t thread[MOST];
    Job job[MOST];
    char started[MOST] = {0};
    if (threads > MOST) threads = MOST;
    if (pool && threads > 1) {
        job[0] = (Job){run, argument, 0, threads};
        pool(work_in_pool, job, (unsigned)threads, 0);
        return;
    }
    for (int t = 1; t < threads; t++) {
        job[t] = (Job){run, argument, t, threads};
        started[t] = pthread_create(thread + t, 0, work, job + t) == 0;
    }
    run(argument, 0, threads > 1 ? threads : 1);
    for (int t = 1; t < threads; t++) {
        if (started[t])
            pthread_join(thread[t], 0);
        else
            run(argument, t, threads); /* a system out of threads is slow, not wrong */
    }
}

/* Instruction sets, best first; a number for each, so that a caller can ask for one. */
typedef struct {
    const char *name;
    Part *assign, *narrow, *tally, *means, *inertia, *steps, *blend, *costs, *cut, *shapes, *scan, *squares, *apart, *try;
} Variant;
#define VARIANT(isa)                                                                                           \
    {#isa, assign_part_##isa, narrow_part_##isa, tally_part_##isa, means_part_##isa, inertia_part_##isa,       \
     steps_part_##isa, blend_part_##isa, costs_part_##isa, cut_part_##isa, shapes_part_##isa, scan_part_##isa,       \
     squares_part_##isa, apart_part_##isa, try_part_##isa}
static const Variant variants[] = {
#if defined(__x86_64__)
    VARIANT(avx512), VARIANT(avx2),
#endif
    VARIANT(generic),
};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* Whether the processor can run a variant. */
static int can_run(const char *name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    if (!strcmp(name, "avx512"))
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
    if (!strcmp(name, "avx2")) return avx2;
#endif
    return !strcmp(name, "generic");
}

int dkm_variants(void) { return VARIANTS; }
const char *dkm_variant_name(int variant) { return variants[variant].name; }
int dkm_variant_runs(int variant) { return can_run(variants[variant].name); }
int64_t dkm_size(int which) {
    const int64_t sizes[] = {sizeof(Assignment), sizeof(Narrow), sizeof(Tally), sizeof(Means), sizeof(Inertia),
                             sizeof(Steps), sizeof(Blend), sizeof(Costs), sizeof(Cutting), sizeof(Scan),
                             sizeof(Squares), sizeof(Trial)};
    return sizes[which];
}

void dkm_assign(Assignment *a, int variant, int threads) { parallel(variants[variant].assign, a, threads); }
void dkm_shapes(Assignment *a, int variant, int threads) { parallel(variants[variant].shapes, a, threads); }
void dkm_scan(Scan *s, int variant, int threads) { parallel(variants[variant].scan, s, threads); }
void dkm_squares(Squares *s, int variant, int threads) { parallel(variants[variant].squares, s, threads); }
void dkm_narrow(Narrow *n, int variant, int threads) { parallel(variants[variant].narrow, n, threads); }
void dkm_means(Means *m, int variant, int threads) { parallel(variants[variant].means, m, threads); }
void dkm_inertia(Inertia *n, int variant, int threads) { parallel(variants[variant].inertia, n, threads); }
void dkm_cut(Cutting *c, int variant, int threads) { parallel(variants[variant].cut, c, threads); }
void dkm_apart(Trial *t, int variant, int threads) { parallel(variants[variant].apart, t, threads); }
void dkm_try(Trial *t, int variant, int threads) { parallel(variants[variant].try, t, threads); }
void dkm_costs(Costs *c, int variant, int threads) { parallel(variants[variant].costs, c, threads); }

/* Sum of double-doubles, and of the third numbers, into ``total``. Error at most count * 2**-103 of the sum of sizes. */
void dkm_total(const double *high, const double *low, const double *size, int64_t count, double *total) {
    double h = 0, l = 0, all = 0;
    for (int64_t k = 0; k < count; k++) {
        const double s = h + high[k], bb = s - h, e = l + low[k] + ((h - (s - bb)) + (high[k] - bb));
        h = s + e, l = e - (h - s), all += size[k];
    }
    total[0] = h, total[1] = l, total[2] = all;
}

void dkm_steps(Steps *s, int variant, int threads) { parallel(variants[variant].steps, s, threads); }
void dkm_blend(Blend *b, int variant, int threads) { parallel(variants[variant].blend, b, threads); }

/* Rows whose label differs leave their old cluster (none where ``before`` is null) and enter the new one. Returns how
   many moved, -1 for want of memory. */
int64_t dkm_tally(Tally *t, const int32_t *before, const int32_t *after, int64_t count, int variant, int threads) {
    enum { RUN = 2048, GRAIN = 1 << 15 };
    const int64_t k = t->clusters, width = t->rows.dims + 1;
    int64_t moved = 0, runs = 0, place = 0;
    int64_t *enter = calloc((size_t)(4 * k), sizeof(int64_t)), *leave = enter + k; /* how many, and where the next goes */
    int32_t *list = malloc((size_t)count * sizeof(int32_t));
    if (!enter || !list) moved = -1;
    for (int64_t i = 0; moved >= 0 && i < count; i++) {
        list[moved] = (int32_t)i;
        moved += !before || before[i] != after[i];
    }
    for (int64_t i = 0; i < moved; i++) {
        enter[after[list[i]]]++;
        if (before) leave[before[list[i]]]++;
    }
    for (int64_t c = 0; moved > 0 && t->touched && c < k; c++) t->touched[c] |= enter[c] || leave[c];
    for (int64_t c = 0; moved > 0 && c < 2 * k; c++) enter[2 * k + c] = place, place += enter[c];
    for (int64_t c = 0; moved > 0 && c < k; c++) runs += (enter[c] + RUN - 1) / RUN + (leave[c] + RUN - 1) / RUN;
    const int64_t worth = place * width * t->limbs / GRAIN;
    if (worth < threads) threads = worth < 1 ? 1 : (int)worth;
    if (moved > 0) {
        t->entries = malloc((size_t)place * sizeof(int32_t));
        t->run = malloc((size_t)runs * sizeof(Run));
        t->scratch = malloc((size_t)(threads * (2 * t->limbs + 1) * width) * sizeof(double));
        if (!t->entries || !t->run || !t->scratch) moved = -1;
    }
    if (moved > 0) {
        Run *run = t->run;
        for (int64_t c = 0; c < k; c++) {
            const int64_t in = enter[2 * k + c], out = enter[3 * k + c];
            const int shared = enter[c] > RUN || leave[c] > RUN;
            for (int64_t at = 0; at < enter[c] || at < leave[c]; at += RUN) {
                const int64_t entering = enter[c] - at, leaving = leave[c] - at;
                *run++ = (Run){in + at, out + at, (int32_t)(entering < 0 ? 0 : entering > RUN ? RUN : entering),
                               (int32_t)(leaving < 0 ? 0 : leaving > RUN ? RUN : leaving), (int32_t)c, shared};
            }
        }
        t->runs = run - t->run, t->listed = place, t->next = 0;
        for (int64_t i = 0; i < moved; i++) {
            t->entries[enter[2 * k + after[list[i]]]++] = list[i];
            if (before) t->entries[enter[3 * k + before[list[i]]]++] = list[i];
        }
        parallel(variants[variant].tally, t, threads);
    }
    free(t->entries), free(t->run), free(t->scratch), free(enter), free(list);
    return moved;
}

/* Adds ``change`` to ``sums`` (clusters, width) and marks the clusters that it touches. */
void dkm_merge(int64_t *sums, const int64_t *change, uint8_t *touched, int64_t clusters, int64_t width) {
    for (int64_t k = 0; k < clusters; k++) {
        int64_t any = 0;
        for (int64_t d = 0; d < width; d++) {
            const int64_t delta = change[k * width + d];
            any |= delta, sums[k * width + d] += delta;
        }
        touched[k] |= any != 0;
    }
}

static inline uint64_t mixed(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    return z ^ z >> 31;
}
/* Random bits of each number: scramble of exact/random.py. */
void dkm_scramble(const uint64_t *numbers, uint64_t *bits, int64_t count, uint64_t first, uint64_t second) {
    for (int64_t i = 0; i < count; i++) bits[i] = mixed(mixed(numbers[i] * 0x9E3779B97F4A7C15 + first) + second);
}

/* Marks the rows of ``now`` that differ from those of ``was``, bit by bit, and copies them there. */
typedef struct {
    char *was;
    const char *now;
    uint8_t *moved;
    int64_t count, bytes;
} Following;

static void follow_part(void *argument, int part, int parts) {
    const Following *f = argument;
    for (int64_t i = f->count * part / parts; i < f->count * (part + 1) / parts; i++) {
        char *was = f->was + i * f->bytes;
        const char *now = f->now + i * f->bytes;
        f->moved[i] = memcmp(was, now, (size_t)f->bytes) != 0;
        if (f->moved[i]) memcpy(was, now, (size_t)f->bytes);
    }
}

void dkm_follow(void *was, const void *now, uint8_t *moved, int64_t count, int64_t bytes, int threads) {
    Following f = {was, now, moved, count, bytes};
    parallel(follow_part, &f, threads);
}

/* Records in the order of their labels' ranks; within a label as they were. A part counts its own, then moves them. */
typedef struct {
    const int32_t *from, *rank;
    int32_t *to, step, clusters;
    int64_t count, *at; /* (parts, clusters + 1): how many, then where the next goes */
} Sorting;

static inline int32_t place_of(const Sorting *s, int64_t i) {
    const int32_t *r = s->from + i * s->step;
    return r[ID] < 0 ? s->clusters : s->rank[r[LABEL]];
}
static void count_part(void *argument, int part, int parts) {
    const Sorting *s = argument;
    int64_t *at = s->at + (int64_t)part * (s->clusters + 1);
    for (int64_t i = s->count * part / parts; i < s->count * (part + 1) / parts; i++) at[place_of(s, i)]++;
}
static void move_part(void *argument, int part, int parts) {
    const Sorting *s = argument;
    int64_t *at = s->at + (int64_t)part * (s->clusters + 1);
    for (int64_t i = s->count * part / parts; i < s->count * (part + 1) / parts; i++)
        memcpy(s->to + s->step * at[place_of(s, i)]++, s->from + i * s->step, sizeof(int32_t) * (size_t)s->step);
}

/* Returns -1 for want of memory. */
int dkm_sort(const int32_t *from, int32_t *to, int64_t count, int32_t step, const int32_t *rank, int32_t clusters,
             int threads) {
    Sorting s = {from, rank, to, step, clusters, count, calloc((size_t)threads * ((size_t)clusters + 1), sizeof(int64_t))};
    if (!s.at) return -1;
    parallel(count_part, &s, threads);
    int64_t place = 0;
    for (int32_t c = 0; c <= clusters; c++)
        for (int t = 0; t < threads; t++) {
            int64_t *at = s.at + (int64_t)t * (clusters + 1) + c, many = *at;
            *at = place, place += many;
        }
    parallel(move_part, &s, threads);
    free(s.at);
    return 0;
}

/* Rows of ``bytes`` in the order of the records. */
typedef struct {
    const char *from;
    char *to;
    const int32_t *records;
    int64_t count, stride, bytes; /* stride: of from, in bytes */
    int32_t step, by;
} Gathering;

static void gather_part(void *argument, int part, int parts) {
    const Gathering *g = argument;
    for (int64_t i = g->count * part / parts; i < g->count * (part + 1) / parts; i++) {
        const int32_t *record = g->records + i * g->step;
        memcpy(g->to + i * g->bytes, g->from + record[g->by] * g->stride, (size_t)g->bytes);
    }
}
void dkm_gather(const void *from, int64_t stride, void *to, int64_t bytes, const int32_t *records, int64_t count, int32_t step,
                int32_t by, int threads) {
    Gathering g = {from, to, records, count, stride, bytes, step, by};
    parallel(gather_part, &g, threads);
}

/* Rows ``which`` of others, ``bytes`` each and ``stride`` apart. */
typedef struct {
    const char *from;
    const int64_t *which;
    char *to;
    int64_t stride, bytes, count;
} Taking;

static void take_part(void *argument, int part, int parts) {
    enum { AHEAD = 4 };
    const Taking *t = argument;
    const int64_t end = t->count * (part + 1) / parts;
    for (int64_t i = t->count * part / parts; i < end; i++) {
        if (i + AHEAD < end)
            for (int64_t at = 0; at < t->bytes; at += 64) __builtin_prefetch(t->from + t->which[i + AHEAD] * t->stride + at);
        memcpy(t->to + i * t->bytes, t->from + t->which[i] * t->stride, (size_t)t->bytes);
    }
}
void dkm_rows(const void *from, int64_t stride, const int64_t *which, void *to, int64_t bytes, int64_t count, int threads) {
    Taking t = {from, which, to, stride, bytes, count};
    parallel(take_part, &t, threads);
}

/* Heads (K, words) as panels, those numbered in ``map`` (a multiple of PANEL, -1 for padding). */
void dkm_pack(const uint32_t *heads, const int32_t *bias, const int32_t *map, int64_t count, int32_t words,
              uint32_t *panel, int32_t *panel_bias) {
    for (int64_t i = 0; i < count; i++) {
        uint32_t *to = panel + i / PANEL * PANEL * words + i % PANEL;
        for (int w = 0; w < words; w++) to[w * PANEL] = map[i] < 0 ? 0 : heads[(int64_t)map[i] * words + w];
        panel_bias[i] = map[i] < 0 ? -ALWAYS : bias[map[i]];
    }
}

/* Constants of centroids: Target.of of kernels/head.py. bounds: the largest reach, max of |h|^2 + 2 bias. level: NULL for 0. */
void dkm_bias(const float *residue, const float *size, const double *square, const double *own, int64_t count, double unit,
              double base, double constant, double largest, double common, const uint8_t *level, int32_t *bias,
              double *bounds) {
    bounds[0] = 0, bounds[1] = -INFINITY;
    for (int64_t k = 0; k < count; k++) {
        const int fits = residue[k] < 1e30f;
        const double reach = (double)size[k] + residue[k], excess = residue[k] - common;
        const double own_unit = level ? unit * (1 << level[k]) : unit;
        double b = -0.5 * own_unit * (1 - 0x1p-21) * square[k] + base * reach + constant + largest * (excess > 0 ? excess : 0);
        b = !fits || !(ceil(b) < ALWAYS) ? ALWAYS : ceil(b) < -ALWAYS ? -ALWAYS : ceil(b);
        bias[k] = (int32_t)b;
        bounds[0] = fits && reach > bounds[0] ? reach : bounds[0];
        bounds[1] = own[k] + 2 * b > bounds[1] ? own[k] + 2 * b : bounds[1];
    }
}

/* Takes one of the centres on trial as number ``taken``: from the rows found, which come closer, and their blocks. */
void dkm_take(Trial *t, int32_t best) {
    for (int64_t i = 0; i < t->found; i++) {
        const int64_t row = t->which[i];
        const double before = t->nearest[row], now = t->distances[i * t->trials + best];
        const double weight = t->weights ? t->weights[row] : 1;
        if (!(now < before)) continue;
        const __int128 lost = (__int128)(int64_t)weight * (int64_t)(before - now);
        into_limbs(t->blocks + row / t->block_rows * t->width, -lost, -(now == 0 && weight > 0), t->width);
        t->nearest[row] = now, t->owner[row] = (int32_t)t->taken;
        t->levels[row] = (float)(t->point_squares[row] * t->keep - now * t->give);
    }
}

/* Rows that hold places, 128 bits each as a lower and an upper half, of the running sum of masses: into ``which``. */
void dkm_find(const Trial *t, const uint64_t *places, int64_t many, int64_t *rows) {
    const int64_t blocks = (t->count + t->block_rows - 1) / t->block_rows;
    for (int64_t i = 0; i < many; i++) {
        const __int128 place = (__int128)((unsigned __int128)places[2 * i + 1] << 64 | places[2 * i]);
        __int128 sum = 0;
        int64_t block = 0;
        for (; block < blocks - 1; block++) {
            __int128 mass = 0;
            for (int l = 0; l < t->width - 1; l++) mass = mass * (1 << LIMB) + t->blocks[block * t->width + l];
            if (sum + mass > place) break;
            sum += mass;
        }
        int64_t row = block * t->block_rows;
        const int64_t last = (row + t->block_rows < t->count ? row + t->block_rows : t->count) - 1;
        for (; row < last; row++) {
            sum += (__int128)(int64_t)(t->weights ? t->weights[row] : 1) * (int64_t)t->nearest[row];
            if (sum > place) break;
        }
        rows[i] = row;
    }
}
