-- The submit filter of a foreign cluster, as many sites have one.
function slurm_job_submit(job, _partitions, _user)
    if job.account == nil then
        slurm.log_user("this cluster charges all jobs: please specify an account with --account")
        return slurm.ERROR
    end
    if job.min_mem_per_node ~= nil then
        slurm.log_user("this cluster shares out memory by CPUs: ask --mem-per-cpu, not --mem")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end

function slurm_job_modify(_job, _record, _partitions, _user)
    return slurm.SUCCESS
end
