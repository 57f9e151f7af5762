"""The backend as an HTTP service on 127.0.0.1, for the Blender add-on and other programs.

Every request carries `Authorization: Bearer TOKEN`, `Host: 127.0.0.1:PORT` and no `Origin`.
Bodies and answers are JSON; a refusal is `{"error": …, "remedy": …}` with a 4xx status, or 507
where the job table cannot be written or the quota is used up.

    GET  /v1/hello                  {protocol, version, profiles, pid, log}
    GET  /v1/openapi.json           all of this, and every field of a job, in OpenAPI 3.1
    POST /v1/jobs                   a job (see backend.jobs.job_to_dict) → 201 and its JobStatus;
                                    a first look (preview) waits for no training;
                                    with ?client=PID it is cancelled when that client leaves;
                                    with ?key=TEXT the same request may be sent again safely
    GET  /v1/jobs                   [JobStatus, …] in the order they came
    GET  /v1/jobs/{id}              JobStatus
    GET  /v1/jobs/{id}?since=N      {job, events, last, artefacts}: what happened after event N,
                                    and a finished job's files {role, path, size, sha256}
    GET  /v1/jobs/{id}/events       the same events as they come (text/event-stream), after
                                    ?since=N or Last-Event-ID, until the job has ended
    POST /v1/jobs/{id}/cancel       JobStatus; the job is over within two seconds
    GET  /v1/jobs/{id}/files/{role} a result's file, such as "image"; while the job runs, "preview"
                                    is its newest picture, if its progress names one
    GET  /v1/storage                {used, quota}: bytes that results take, and may take
    POST /v1/clients/join           {pid}: the service stays while that process lives
    POST /v1/clients/leave          {pid} → {stopping}: true if nobody else needs the service
    POST /v1/shutdown               stops the service

An event is {n, state}, {n, progress} or {n, log: {level, text}}; n counts from 1 in each job, also
across restarts. Of progress and log lines the newest 2,000 are kept; lines have at most 500
characters, a running job at most 500 of them, and secrets and paths outside the roots are left out.

Work runs in processes of its own: one for first looks, and one for all else on each GPU, or one if
there is none or one (`serve --workers N`: N in place of one). A worker that crashes fails its job,
unless that was finished, or had not begun: then it waits again, once. Workers are started again
after a growing pause; after five crashes in a row what waits is failed too.

With `serve --idle-hours X` it also stops where nothing is asked of it and no job waits or runs for
so long, as when whoever started it is there no more and nobody could tell.

With `serve --quota-gb X` a job is refused where the results of the newest 1,000 jobs, checkpoints
included, leave no room for it, when it is sent and again before it starts. Nothing is deleted by
itself: `python -m backend clean` does that.

With `serve --data DIR` it can be found by DIR/run/service.json, which says what `serve` prints,
and jobs outlast it in DIR/jobs: after a restart, however the service ended, finished jobs are
answered as before, waiting jobs wait in their order, and a running job waits in front, a training
to go on from its last checkpoint. Its log is DIR/logs/service.log.
"""
