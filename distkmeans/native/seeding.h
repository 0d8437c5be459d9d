/* A round of greedy k-means++ on the grid of init/lattice.py, for one instruction set. All that is summed is integers. */

typedef double V(wide) __attribute__((vector_size(64)));
typedef float V(half) __attribute__((vector_size(32)));

/* Squared distance of two points of the grid: exact in any order. */
static double V(between)(const float *a, const float *b, int dims) {
    V(wide) sums = {0};
    int d = 0;
    for (; d + 8 <= dims; d += 8) {
        V(half) x, y;
        memcpy(&x, a + d, sizeof x), memcpy(&y, b + d, sizeof y);
        const V(wide) off = __builtin_convertvector(x, V(wide)) - __builtin_convertvector(y, V(wide));
        sums += off * off;
    }
    double sum = 0;
    for (int l = 0; l < 8; l++) sum += sums[l];
    for (; d < dims; d++) sum += ((double)a[d] - b[d]) * ((double)a[d] - b[d]);
    return sum;
}

/* Scores of some points and the centres on trial, side by side in the lanes: bias + product, (TOGETHER, MOST_TRIALS). */
static void V(scores)(const Trial *t, const float *const *x, const float *bias, float (*score)[MOST_TRIALS]) {
    for (int at = 0; at < t->trials; at += LANES) {
        V(vec) acc[TRIED_TOGETHER];
        _Pragma("GCC unroll 8") for (int r = 0; r < TRIED_TOGETHER; r++) acc[r] = LOAD(bias + at);
        for (int d = 0; d < t->dims; d++) {
            const V(vec) c = LOAD(t->columns + (size_t)d * MOST_TRIALS + at);
            _Pragma("GCC unroll 8") for (int r = 0; r < TRIED_TOGETHER; r++) acc[r] = MUL_ADD(c, SET1(x[r][d]), acc[r]);
        }
        _Pragma("GCC unroll 8") for (int r = 0; r < TRIED_TOGETHER; r++) memcpy(score[r] + at, acc + r, sizeof acc[r]);
    }
}

/* At least how far each centre so far is from those on trial: as their products are rounded by g (|p|^2 + |c|^2) / 2. */
static void V(apart_part)(void *argument, int part, int parts) {
    const Trial *t = argument;
    const float none[MOST_TRIALS] = {0};
    for (int64_t i = t->taken * part / parts; i < t->taken * (part + 1) / parts; i += TRIED_TOGETHER) {
        const float *x[TRIED_TOGETHER];
        float score[TRIED_TOGETHER][MOST_TRIALS];
        for (int r = 0; r < TRIED_TOGETHER; r++) x[r] = t->before + (i + r < t->taken ? i + r : i) * t->dims;
        V(scores)(t, x, none, score);
        for (int r = 0; r < TRIED_TOGETHER && i + r < t->taken * (part + 1) / parts; r++) {
            double least = INFINITY;
            for (int k = 0; k < t->trials; k++) {
                const double far = (t->before_squares[i + r] + t->squares[k]) * (1 - t->slack) - 2 * (double)score[r][k];
                least = far < least ? far : least;
            }
            t->apart[i + r] = least;
        }
    }
}

/* What the centres on trial take from some rows: ``lost`` units and rows ``gone`` to 0, of this thread. */
static void V(try_rows)(Trial *t, const int64_t *row, int many, __int128 *lost, int64_t *gone) {
    const float *x[TRIED_TOGETHER];
    float score[TRIED_TOGETHER][MOST_TRIALS];
    for (int r = 0; r < TRIED_TOGETHER; r++) x[r] = t->points + row[r < many ? r : 0] * t->dims;
    V(scores)(t, x, t->bias, score);
    for (int r = 0; r < many; r++) {
        const double nearest = t->nearest[row[r]], weight = t->weights ? t->weights[row[r]] : 1;
        double distance[MOST_TRIALS];
        int closer = 0;
        for (int k = 0; k < t->trials; k++) {
            distance[k] = nearest;
            if (!(score[r][k] >= t->levels[row[r]])) continue;
            const double d = V(between)(x[r], t->centres + (size_t)k * t->dims, t->dims);
            if (!(d < nearest)) continue;
            closer = 1, distance[k] = d;
            lost[k] += (__int128)(int64_t)weight * (int64_t)(nearest - d);
            gone[k] += d == 0 && weight > 0;
        }
        if (!closer) continue;
        const int64_t at = __atomic_fetch_add(&t->found, 1, __ATOMIC_RELAXED);
        if (at >= t->room) continue;
        t->which[at] = row[r];
        memcpy(t->distances + at * t->trials, distance, sizeof(double) * (size_t)t->trials);
    }
}

/* Whether no centre on trial can be nearer to a row than its own o: |p - c| >= |o - c| - |p - o| >= |p - o|. */
static inline int V(stays)(const Trial *t, int64_t row) { return t->apart[t->owner[row]] >= 4 * t->nearest[row]; }

static void V(try_part)(void *argument, int part, int parts) {
    enum { CHUNK = 2048 };
    Trial *t = argument;
    __int128 lost[MOST_TRIALS] = {0};
    int64_t gone[MOST_TRIALS] = {0}, row[TRIED_TOGETHER];
    (void)part, (void)parts;
    for (;;) {
        const int64_t begin = __atomic_fetch_add(&t->next, CHUNK, __ATOMIC_RELAXED);
        const int64_t end = begin + CHUNK < t->count ? begin + CHUNK : t->count;
        int many = 0;
        if (begin >= t->count) break;
        for (int64_t i = begin; i < end; i++) {
            const int64_t next = i + 2 * TRIED_TOGETHER;
            if (next < end && !V(stays)(t, next))
                for (int d = 0; d < t->dims; d += 16) __builtin_prefetch(t->points + next * t->dims + d);
            if (V(stays)(t, i)) continue;
            row[many++] = i;
            if (many == TRIED_TOGETHER) V(try_rows)(t, row, many, lost, gone), many = 0;
        }
        if (many) V(try_rows)(t, row, many, lost, gone);
    }
    for (int k = 0; k < t->trials; k++) into_limbs(t->lost + k * t->width, lost[k], gone[k], t->width);
}
