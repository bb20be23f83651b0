-- Health of Typevisor's kinds for Argo CD, as kstatus judges: what is stalled is degraded, what is not about the spec of
-- now is on its way, and the rest is what Ready says.
local health = { status = "Progressing", message = "Waits for Typevisor" }
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return health
end
local conditions = {}
for _, condition in ipairs(status.conditions or {}) do
  conditions[condition.type] = condition
end
local function is(kind, wanted)
  return conditions[kind] ~= nil and conditions[kind].status == wanted
end
if is("Stalled", "True") then
  health.status = "Degraded"
  health.message = conditions.Stalled.message
elseif is("Reconciling", "True") then
  health.message = conditions.Reconciling.message
elseif conditions.Ready ~= nil then
  health.status = is("Ready", "True") and "Healthy" or "Progressing"
  health.message = conditions.Ready.message
end
return health
