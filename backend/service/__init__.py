"""The backend as an HTTP service on 127.0.0.1, for the Blender add-on and other programs.

Every request carries `Authorization: Bearer TOKEN`, `Host: 127.0.0.1:PORT` and no `Origin`.
Bodies and answers are JSON; a refusal is `{"error": …, "remedy": …}` with a 4xx status.

    GET  /v1/hello                  {protocol, version, profiles, pid}
    POST /v1/jobs                   a job (see backend.jobs.job_to_dict) → 201 and its JobStatus;
                                    a first look (preview) waits for no training;
                                    with ?client=PID it is cancelled when that client leaves
    GET  /v1/jobs                   [JobStatus, …] in the order they came
    GET  /v1/jobs/{id}              JobStatus
    POST /v1/jobs/{id}/cancel       JobStatus; the job is over within two seconds
    GET  /v1/jobs/{id}/files/{role} a result's file, such as "image"
    POST /v1/clients/join           {pid}: the service stays while that process lives
    POST /v1/clients/leave          {pid} → {stopping}: true if nobody else needs the service
    POST /v1/shutdown               stops the service

With `serve --data DIR` it can be found by DIR/run/service.json, which says what `serve` prints.
"""
